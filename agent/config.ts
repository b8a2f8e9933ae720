/** weftd's configuration: /etc/weft/weft.json, written by `weft up`. Every path can be moved, which is how several hosts live on one machine. */
import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { errorText, weftError } from '../base/errors.ts';
import { parsePrefix4 } from '../base/ip.ts';

export const DEFAULT_DATA_DIRECTORY = '/var/lib/weft';

const path = v.pipe(v.string(), v.regex(/^\//, 'give an absolute path'));

const Schema = v.strictObject({
  /** Underlay address that other nodes send to. */
  advertise: v.pipe(v.string(), v.ipv4()),
  /** How people call this node; default: the host's name. */
  name: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(64))),
  /** The user's own etcd. Absent: the store is Weft's affair. */
  etcd: v.optional(v.pipe(
    v.strictObject({
      endpoints: v.pipe(v.array(v.pipe(v.string(), v.regex(/^https?:\/\/[^/]+\/?$/, 'give endpoints such as https://10.0.0.10:2379'))), v.minLength(1)),
      /** PEM files. */
      ca: v.optional(path), cert: v.optional(path), key: v.optional(path),
      /** A user of etcd's own. */
      user: v.optional(v.pipe(v.string(), v.minLength(1))), password: v.optional(v.string()),
    }),
    v.check(({ cert, key }) => (cert === undefined) === (key === undefined), 'cert and key come together'),
    v.check(({ user, password }) => (user === undefined) === (password === undefined), 'user and password come together'),
    v.check(({ endpoints, ca, cert }) => (ca ?? cert) === undefined || endpoints.every((endpoint) => endpoint.startsWith('https:')), 'certificates need endpoints with https://'),
  )),
  gossipPort: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)), 7947),
  /** UDP port of the VXLAN tunnels. */
  vxlanPort: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)), 4789),
  dataDir: v.optional(v.string(), DEFAULT_DATA_DIRECTORY),
  runDir: v.optional(v.string(), '/run/weft'),
  pluginDir: v.optional(v.string(), '/run/docker/plugins'),
  dockerSocket: v.optional(v.string(), '/run/docker.sock'),
  defaultPools: v.optional(v.array(v.pipe(v.string(), v.check((text) => parsePrefix4(text) !== undefined, 'give IPv4 prefixes such as 10.192.0.0/11'))), ['10.192.0.0/11']),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error']), 'info'),
});

export type Config = v.InferOutput<typeof Schema>;

export const DEFAULT_CONFIG_PATH = '/etc/weft/weft.json';

/** Throws WEFT-CONFIG naming the first field that is wrong. */
export function parseConfig(text: string, path: string): Config {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw weftError('WEFT-CONFIG', { path, detail: errorText(error) });
  }
  const result = v.safeParse(Schema, value);
  if (!result.success) {
    const [issue] = result.issues;
    throw weftError('WEFT-CONFIG', { path, detail: `${v.getDotPath(issue) ?? 'the whole'}: ${issue.message}` });
  }
  return result.output;
}

export function loadConfig(path = DEFAULT_CONFIG_PATH): Config {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw weftError('WEFT-CONFIG', { path, detail: errorText(error) });
  }
  return parseConfig(text, path);
}
