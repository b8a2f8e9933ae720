import { DEFAULT_NODE_PREFIX, changeConfig, readRawConfig, type Config } from '../agent/config.ts';
import { checkNodePrefix, chooseAdvertised, hostAddresses } from './advertise.ts';
import { storeFiles, type StoreFiles } from './store-files.ts';

export interface UpOptions extends StoreFiles {
  advertise?: string; store?: string; name?: string; nodePrefix?: string;
  /** Comma-separated addresses. */
  seeds?: string;
  multicast?: boolean;
  /** Comma-separated addresses to begin with, true: without any, false: not at all. */
  dht?: string | boolean;
}

/** What is said of the user's etcd; nothing said leaves what was there. */
function etcdOf({ store, ...options }: UpOptions): object | undefined {
  const files = storeFiles(options);
  if (store === undefined && Object.keys(files).length === 0) return undefined;
  return { ...(store !== undefined && { endpoints: store.split(',') }), ...files };
}

const listOf = (text: string): string[] => text.split(',').filter((each) => each !== '');

/** What is said of finding other nodes; the rest stays. */
function discoveryOf({ seeds, multicast, dht }: UpOptions, before: Record<string, unknown> = {}): object {
  const known = before['dht'] as object | undefined;
  return {
    ...before,
    ...(seeds !== undefined && { seeds: listOf(seeds) }),
    ...(multicast !== undefined && { multicast }),
    ...(dht !== undefined && { dht: dht === false ? undefined : { ...known, ...(dht !== true && { bootstrap: listOf(dht) }) } }),
  };
}

/**
 * The configuration that `weft up` leaves behind: what was there, changed by what was said now. Nothing is written
 * when the result would be refused.
 */
export function configure(path: string, options: UpOptions): Config {
  const before = readRawConfig(path);
  const known = typeof before['advertise'] === 'string' ? before['advertise'] : undefined;
  const etcd = etcdOf(options);
  const discovery = discoveryOf(options, before['discovery'] as Record<string, unknown> | undefined);
  const nodePrefix = options.nodePrefix ?? (before['nodePrefix'] as string | undefined) ?? DEFAULT_NODE_PREFIX;
  checkNodePrefix(nodePrefix);
  return changeConfig(path, {
    advertise: options.advertise === undefined && known !== undefined ? known : chooseAdvertised(options.advertise, hostAddresses()),
    ...(options.name !== undefined && { name: options.name }),
    ...(options.nodePrefix !== undefined && { nodePrefix }),
    ...(etcd && { etcd: { ...(before['etcd'] as object | undefined), ...etcd } }),
    ...(Object.keys(discovery).length > 0 && { discovery }),
  });
}
