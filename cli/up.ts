import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseConfig, type Config } from '../agent/config.ts';
import { chooseAdvertised, hostAddresses } from './advertise.ts';

export interface UpOptions { advertise?: string; store?: string; storeCa?: string; storeCert?: string; storeKey?: string; name?: string }

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
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>) : {};
  const known = typeof before['advertise'] === 'string' ? before['advertise'] : undefined;
  const etcd = etcdOf(options);
  const next = {
    ...before,
    advertise: options.advertise === undefined && known !== undefined ? known : chooseAdvertised(options.advertise, hostAddresses()),
    ...(options.name !== undefined && { name: options.name }),
    ...(etcd && { etcd: { ...(before['etcd'] as object | undefined), ...etcd } }),
  };
  return writeConfig(path, next);
}

/** Throws WEFT-CONFIG, and writes nothing, where it is none. */
export function writeConfig(path: string, value: object): Config {
  const text = `${JSON.stringify(value, undefined, 2)}\n`;
  const config = parseConfig(text, path);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode: 0o600 });
  return config;
}
