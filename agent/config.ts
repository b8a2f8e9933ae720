/** weftd's configuration: /etc/weft/weft.json, written by `weft up`. Every path can be moved, which is how several hosts live on one machine. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { errorText, weftError } from '../base/errors.ts';
import { bytesToIp, ipToBytes, parsePrefix4, splitHostPort } from '../base/ip.ts';
import { parsePrefix } from '../base/prefix.ts';
import { parseTlsServer, TLS_SERVER_HINT } from '../dns/tls-server.ts';
import { CLIENT_PORT, PEER_PORT } from '../store/etcd-ports.ts';

export const DEFAULT_DATA_DIRECTORY = '/var/lib/weft';

export const DEFAULT_NODE_PREFIX = '10.255.0.0/16';

const path = v.pipe(v.string(), v.regex(/^\//, 'give an absolute path'));

const portNumber = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));

/** Without a zone (RFC 4007 §11): that is no other host's. */
const isAddress = (text: string): boolean => isIP(text) !== 0 && !text.includes('%');

/** Text such as 10.0.0.12 or 2001:db8::12, where the port is known, or 10.0.0.12:7947, [2001:db8::12]:7947. */
const addresses = (defaultPort: number) => v.array(v.pipe(
  v.string(),
  v.transform((text) => {
    if (isAddress(text)) return { host: text, port: defaultPort };
    const { ip, port } = splitHostPort(text);
    return { host: ip, port: /:\d{1,5}$/.test(text) ? port : NaN };
  }),
  v.check(({ host, port }) => isAddress(host) && port >= 1 && port <= 65535, `give addresses such as 10.0.0.12 or 10.0.0.12:${defaultPort}, an IPv6 one with its port as [2001:db8::12]:${defaultPort}`),
));

const GOSSIP_PORT = 7947;
const DHT_PORT = 7951;

/** An address of the loopback that no other name server has by default. */
export const HOST_DNS_ADDRESS = '127.0.0.87';
/** Seconds. */
const NAME_TTL = 5;
const LONGEST_NAME_TTL = 3_600;

const Discovery = v.strictObject({
  /** Where other nodes' gossip may be, beside what the store says. */
  seeds: v.optional(addresses(GOSSIP_PORT), []),
  multicast: v.optional(v.boolean(), true),
  dht: v.optional(v.strictObject({
    /** UDP. */
    port: v.optional(portNumber, DHT_PORT),
    /** Of other nodes' tables. */
    bootstrap: v.optional(v.pipe(addresses(DHT_PORT), v.check((all) => all.every(({ host }) => isIPv4(host)), 'give IPv4 addresses: the table has no others')), []),
  })),
});

function isNodePrefix(text: string): boolean {
  const length = parsePrefix4(text)?.length ?? 0;
  return length >= 8 && length <= 28;
}

const Schema = v.pipe(v.strictObject({
  /** Underlay address that other nodes send to. */
  advertise: v.pipe(v.string(), v.check(isAddress, 'give an IP address'), v.transform((text) => bytesToIp(ipToBytes(text)))),
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
  gossipPort: v.optional(portNumber, GOSSIP_PORT),
  /** How nodes find each other when the store's list of them is of no use. */
  discovery: v.optional(Discovery, {}),
  /** TCP ports of the cluster's etcd on this host: for nodes, and among its members. */
  storePort: v.optional(portNumber, CLIENT_PORT),
  storePeerPort: v.optional(portNumber, PEER_PORT),
  /** UDP port of the VXLAN tunnels. */
  vxlanPort: v.optional(portNumber, 4789),
  /** Whether packets between containers of two hosts are spared the host's own path where they can be. */
  fastPath: v.optional(v.boolean(), true),
  /** UDP port of WireGuard, where there are encrypted networks; each node tells the others its own. */
  wireguardPort: v.optional(portNumber, 7952),
  /** Of the nodes' own addresses in the fabric; the same on every node. */
  nodePrefix: v.optional(v.pipe(v.string(), v.check(isNodePrefix, 'give an IPv4 prefix with a length of 8 to 28, such as 10.255.0.0/16')), DEFAULT_NODE_PREFIX),
  /** The resolver in containers. */
  dns: v.optional(v.strictObject({
    /** Seconds for which clients may keep the answers about containers. */
    ttl: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(LONGEST_NAME_TTL)), NAME_TTL),
    /** Of several addresses behind a name: all in turn, or those of this node first and then the nearest ones. */
    order: v.optional(v.picklist(['rotate', 'nearest']), 'rotate'),
    /** Take several questions with one system call where they wait. */
    batches: v.optional(v.boolean(), true),
    /** Whether programs of this host may ask for containers' names, and at which address of its loopback. */
    host: v.optional(v.pipe(
      v.union([v.boolean(), v.pipe(v.string(), v.ipv4())]), v.transform((host) => (host === true ? HOST_DNS_ADDRESS : host === false ? undefined : host)),
    ), false),
    /** Whether containers' namespaces are left alone, and who asks at an address of this host is answered instead: the node's own one in the fabric, or this one. */
    listen: v.optional(v.union([v.boolean(), v.pipe(v.string(), v.ipv4())]), false),
    /** Name servers for the outside world, asked over TLS; none: Docker's resolver and the host's name servers. */
    upstreams: v.optional(v.array(v.pipe(
      v.string(), v.check((text) => parseTlsServer(text) !== undefined, TLS_SERVER_HINT), v.transform((text) => parseTlsServer(text)!),
    )), []),
    /** PEM file with the authorities that may vouch for them. */
    ca: v.optional(path),
  }), {}),
  dataDir: v.optional(v.string(), DEFAULT_DATA_DIRECTORY),
  runDir: v.optional(v.string(), '/run/weft'),
  pluginDir: v.optional(v.string(), '/run/docker/plugins'),
  dockerSocket: v.optional(v.string(), '/run/docker.sock'),
  defaultPools: v.optional(v.array(v.pipe(v.string(), v.check((text) => parsePrefix(text) !== undefined, 'give prefixes such as 10.192.0.0/11'))), ['10.192.0.0/11']),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error']), 'info'),
}), v.check(({ advertise, discovery }) => discovery.dht === undefined || isIPv4(advertise), 'discovery.dht knows IPv4 addresses only, and advertise is none'));

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

/** What the file says, unchecked; nothing where there is none. */
export const readRawConfig = (path: string): Record<string, unknown> => (existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>) : {});

/** Throws WEFT-CONFIG, and writes nothing, where it is none. A crash leaves the old file or the new one. */
export function writeConfig(path: string, value: object): Config {
  const text = `${JSON.stringify(value, undefined, 2)}\n`;
  const config = parseConfig(text, path);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
  return config;
}

export const changeConfig = (path: string, change: object): Config => writeConfig(path, { ...readRawConfig(path), ...change });
