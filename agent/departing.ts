/** Docker's plugin calls on a host that takes part no more: everything may go, nothing new is made. */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { servePlugin } from '../plugin-spec/server.ts';
import type { IpamDriverHandlers, NetworkDriverHandlers } from '../plugin-spec/types.ts';
import type { Config } from './config.ts';
import { PLUGINS } from './docker/replicator.ts';

export interface DepartingOptions {
  config: Config;
  /** Why nothing new is made. */
  reason: Error;
  /** Listening sockets from the service manager, by path. */
  inherited: ReadonlyMap<string, number>;
  clock: Clock;
  log: Logger;
}

export async function serveDeparting({ config, reason, inherited, clock, log }: DepartingOptions): Promise<{ close(): Promise<void> }> {
  const refuse = (): Promise<never> => Promise.reject(reason);
  const network: NetworkDriverHandlers = {
    capabilities: () => ({ scope: 'local', connectivityScope: 'local', gwAllocChecker: false }),
    createNetwork: refuse,
    deleteNetwork: async () => {},
    createEndpoint: refuse,
    deleteEndpoint: async () => {},
    endpointOperInfo: async () => ({}),
    join: refuse,
    leave: async () => {},
    programExternalConnectivity: async () => {},
    revokeExternalConnectivity: async () => {},
  };
  const ipam: IpamDriverHandlers = {
    capabilities: () => ({ requiresMacAddress: false, requiresRequestReplay: false }),
    defaultAddressSpaces: () => ({ local: 'weft', global: 'weft' }),
    requestPool: refuse,
    releasePool: async () => {},
    requestAddress: refuse,
    releaseAddress: async () => {},
  };
  const plugins = PLUGINS.map((name) => ({ name, plugin: servePlugin({ name, log, clock, ...(name === 'weft' ? { ipam } : { network }) }) }));
  for (const { name, plugin } of plugins) {
    const path = join(config.pluginDir, `${name}.sock`);
    const fd = inherited.get(path);
    await plugin.listen(fd === undefined ? { path } : { fd });
  }
  return { close: async () => void (await Promise.all(plugins.map(({ plugin }) => plugin.close()))) };
}
