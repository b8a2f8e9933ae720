import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseConfig, type Config } from '../agent/config.ts';
import { chooseAdvertised, hostAddresses } from './advertise.ts';

export interface UpOptions { advertise?: string; store?: string; name?: string }

/**
 * The configuration that `weft up` leaves behind: what was there, changed by what was said now. Nothing is written
 * when the result would be refused.
 */
export function configure(path: string, options: UpOptions): Config {
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>) : {};
  const known = typeof before['advertise'] === 'string' ? before['advertise'] : undefined;
  const next = {
    ...before,
    advertise: options.advertise === undefined && known !== undefined ? known : chooseAdvertised(options.advertise, hostAddresses()),
    ...(options.name !== undefined && { name: options.name }),
    ...(options.store !== undefined && { etcd: { ...(before['etcd'] as object | undefined), endpoints: options.store.split(',') } }),
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
