/** The plugin sockets that Docker calls: a network driver's each, and the IPAM driver's. */
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/log.ts';
import { servePlugin } from '../../plugin-spec/server.ts';
import type { IpamDriverHandlers, NetworkDriverHandlers } from '../../plugin-spec/types.ts';
import type { Config } from '../config.ts';
import { DRIVERS } from '../network-scope.ts';

export const PLUGIN_PREFIX = 'weft-';
const IPAM_PLUGIN = 'weft';
/** Names of all plugin sockets. */
export const PLUGINS: readonly string[] = [...DRIVERS.map((driver) => `${PLUGIN_PREFIX}${driver}`), IPAM_PLUGIN];

export interface PluginsOptions {
  network(driver: string): NetworkDriverHandlers;
  ipam: IpamDriverHandlers;
  /** A dockerd uses that driver for the first time in its life. */
  onActivate?(driver: string): void;
  config: Pick<Config, 'pluginDir'>;
  /** Listening sockets from the service manager, by path. */
  inherited: ReadonlyMap<string, number>;
  clock: Clock;
  log: Logger;
}

/** Resolves when all of them listen. */
export async function servePlugins({ network, ipam, onActivate, config, inherited, clock, log }: PluginsOptions): Promise<{ close(): Promise<void> }> {
  const plugins = [
    ...DRIVERS.map((driver) => ({ name: `${PLUGIN_PREFIX}${driver}`, network: network(driver), onActivate: () => onActivate?.(driver) })),
    { name: IPAM_PLUGIN, ipam },
  ].map((each) => ({ name: each.name, plugin: servePlugin({ ...each, log, clock }) }));
  for (const { name, plugin } of plugins) {
    const path = join(config.pluginDir, `${name}.sock`);
    const fd = inherited.get(path);
    await plugin.listen(fd === undefined ? { path } : { fd });
  }
  return { close: async () => void (await Promise.all(plugins.map(({ plugin }) => plugin.close()))) };
}
