import { resolve } from 'node:path';
import { DEFAULT_NODE_PREFIX, changeConfig, readRawConfig, type Config } from '../agent/config.ts';
import { checkNodePrefix, chooseAdvertised, hostAddresses } from './advertise.ts';

export interface UpOptions { advertise?: string; store?: string; storeCa?: string; storeCert?: string; storeKey?: string; name?: string; nodePrefix?: string }

/** What is said of the user's etcd; nothing said leaves what was there. */
function etcdOf({ store, storeCa: ca, storeCert: cert, storeKey: key }: UpOptions): object | undefined {
  // weftd reads the files later, from another folder.
  const files = Object.entries({ ca, cert, key }).flatMap(([name, path]) => (path === undefined ? [] : [[name, resolve(path)]]));
  if (store === undefined && files.length === 0) return undefined;
  return { ...(store !== undefined && { endpoints: store.split(',') }), ...Object.fromEntries(files) };
}

/**
 * The configuration that `weft up` leaves behind: what was there, changed by what was said now. Nothing is written
 * when the result would be refused.
 */
export function configure(path: string, options: UpOptions): Config {
  const before = readRawConfig(path);
  const known = typeof before['advertise'] === 'string' ? before['advertise'] : undefined;
  const etcd = etcdOf(options);
  const nodePrefix = options.nodePrefix ?? (before['nodePrefix'] as string | undefined) ?? DEFAULT_NODE_PREFIX;
  checkNodePrefix(nodePrefix);
  return changeConfig(path, {
    advertise: options.advertise === undefined && known !== undefined ? known : chooseAdvertised(options.advertise, hostAddresses()),
    ...(options.name !== undefined && { name: options.name }),
    ...(options.nodePrefix !== undefined && { nodePrefix }),
    ...(etcd && { etcd: { ...(before['etcd'] as object | undefined), ...etcd } }),
  });
}
