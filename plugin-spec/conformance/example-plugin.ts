/**
 * A network and IPAM plugin in as few lines as conform: it keeps state in memory and makes no links. It shares no code
 * with the plugin server of this folder's parent, so that it shows what the kit asks of plugins that are not ours.
 */
import http from 'node:http';

export type Body = Record<string, unknown>;
/** Gives the answer to a call or a promise of it, or throws what the user is shown. */
export type Handler = (body: Body) => unknown;

const string = (body: Body, key: string): string => {
  const value = body[key];
  if (typeof value !== 'string') throw new Error(`${key} is not a string`);
  return value;
};
const object = (body: Body, key: string): Body => {
  const value = body[key] ?? {};
  if (typeof value !== 'object' || Array.isArray(value)) throw new Error(`${key} is not an object`);
  return value as Body;
};
const list = (body: Body, key: string): unknown[] => {
  const value = body[key] ?? [];
  if (!Array.isArray(value)) throw new Error(`${key} is not a list`);
  return value;
};

export function networkDriver({ scope = 'local' } = {}): Record<string, Handler> {
  const networks = new Map<string, { gateway: string }>();
  const endpoints = new Map<string, string>();
  const both = (body: Body): [string, string] => [string(body, 'NetworkID'), string(body, 'EndpointID')];
  return {
    'NetworkDriver.GetCapabilities': () => ({ Scope: scope, GwAllocChecker: true }),
    'NetworkDriver.GwAllocCheck': () => ({ SkipIPv4: false, SkipIPv6: false }),
    'NetworkDriver.AllocateNetwork': (body) => ({ Options: object(body, 'Options') }),
    'NetworkDriver.FreeNetwork': () => ({}),
    'NetworkDriver.CreateNetwork': (body) => {
      list(body, 'IPv6Data');
      const [first] = list(body, 'IPv4Data') as { Gateway?: string }[];
      const internal = object(body, 'Options')['com.docker.network.internal'] === true;
      networks.set(string(body, 'NetworkID'), { gateway: internal ? '' : (first?.Gateway ?? '').split('/')[0]! });
      return {};
    },
    'NetworkDriver.DeleteNetwork': (body) => {
      const network = string(body, 'NetworkID');
      networks.delete(network);
      for (const [endpoint, of] of endpoints) if (of === network) endpoints.delete(endpoint);
      return {};
    },
    'NetworkDriver.CreateEndpoint': (body) => {
      const [network, endpoint] = both(body);
      object(body, 'Options');
      if (!networks.has(network)) throw new Error(`There is no network ${network}`);
      endpoints.set(endpoint, network);
      return { Interface: object(body, 'Interface')['MacAddress'] ? {} : { MacAddress: `02:42:${endpoint.slice(0, 8).match(/../g)!.join(':')}` } };
    },
    'NetworkDriver.DeleteEndpoint': (body) => {
      endpoints.delete(both(body)[1]);
      return {};
    },
    'NetworkDriver.EndpointOperInfo': (body) => (both(body), { Value: {} }),
    'NetworkDriver.Join': (body) => {
      const [network, endpoint] = both(body);
      string(body, 'SandboxKey');
      object(body, 'Options');
      if (!endpoints.has(endpoint)) throw new Error(`There is no endpoint ${endpoint}`);
      return { InterfaceName: { SrcName: `ex${endpoint.slice(0, 10)}`, DstPrefix: 'eth' }, Gateway: networks.get(network)?.gateway ?? '' };
    },
    'NetworkDriver.Leave': (body) => (both(body), {}),
    'NetworkDriver.ProgramExternalConnectivity': (body) => (both(body), object(body, 'Options'), {}),
    'NetworkDriver.RevokeExternalConnectivity': (body) => (both(body), {}),
    'NetworkDriver.DiscoverNew': () => ({}),
    'NetworkDriver.DiscoverDelete': () => ({}),
  };
}

interface Pool { network: string; length: string; first: number; last: number; taken: Set<string> }

/** IPv4 /24s and IPv6 /64s; the pools that it chooses itself are cut from 10.209.0.0/16. */
export function ipamDriver({ replay = false } = {}): Record<string, Handler> {
  const pools = new Map<string, Pool>();
  const chosen = (): string => {
    for (let i = 0; i < 256; i++) if (!pools.has(`10.209.${i}.0/24 `)) return `10.209.${i}.0/24`;
    throw new Error('All pools are in use');
  };
  return {
    'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: false, RequiresRequestReplay: replay }),
    'IpamDriver.GetDefaultAddressSpaces': () => ({ LocalDefaultAddressSpace: 'example', GlobalDefaultAddressSpace: 'example' }),
    'IpamDriver.RequestPool': (body) => {
      string(body, 'AddressSpace');
      object(body, 'Options');
      if (typeof body['V6'] !== 'boolean') throw new Error('V6 is not a boolean');
      const cidr = string(body, 'Pool') || chosen();
      const range = string(body, 'SubPool');
      const [, network, length] = /^([\da-f.]+\.|[\da-f:]+:)0?\/(24|64)$/.exec(cidr) ?? [];
      if (network === undefined || length === undefined) throw new Error(`${cidr} is no subnet that this driver takes`);
      const first = range === '' ? 1 : Number(/\.(\d+)\//.exec(range)?.[1]);
      const last = range === '' ? 254 : first + 2 ** (32 - Number(range.split('/')[1])) - 1;
      const id = `${cidr} ${range}`;
      if (!pools.has(id)) pools.set(id, { network, length, first, last, taken: new Set() });
      return { PoolID: id, Pool: cidr, Data: {} };
    },
    'IpamDriver.ReleasePool': (body) => (pools.delete(string(body, 'PoolID')), {}),
    'IpamDriver.RequestAddress': (body) => {
      const pool = pools.get(string(body, 'PoolID'));
      object(body, 'Options');
      if (!pool) throw new Error('There is no such pool');
      let address = string(body, 'Address');
      for (let host = pool.first; address === ''; host++) {
        if (host > pool.last) throw new Error('All addresses are in use');
        if (!pool.taken.has(`${pool.network}${host}`)) address = `${pool.network}${host}`;
      }
      if (pool.taken.has(address) && !replay) throw new Error(`${address} is in use`);
      pool.taken.add(address);
      return { Address: `${address}/${pool.length}` };
    },
    'IpamDriver.ReleaseAddress': (body) => {
      const [pool, address] = [pools.get(string(body, 'PoolID')), string(body, 'Address')];
      pool?.taken.delete(address);
      return {};
    },
  };
}

/** Serves such drivers; the caller listens at the socket. */
export function examplePlugin(handlers: Record<string, Handler>): http.Server {
  const drivers = ['NetworkDriver', 'IpamDriver'].filter((driver) => Object.keys(handlers).some((call) => call.startsWith(`${driver}.`)));
  const calls: Record<string, Handler> = { 'Plugin.Activate': () => ({ Implements: drivers }), ...handlers };
  const withBody = new Set(Object.keys(calls).filter((call) => !/Activate|Get(Capabilities|DefaultAddressSpaces)$/.test(call)));
  return http.createServer({ requireHostHeader: false, keepAliveTimeout: 0 }, async (request, response) => {
    const call = (request.url ?? '').slice(1);
    const handler = calls[call];
    const reply = (status: number, answer: unknown): void => void response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(answer)}\n`);
    try {
      let text = '';
      for await (const chunk of request) text += String(chunk);
      if (!handler) return reply(404, { Err: `unknown call ${call}` });
      const body: unknown = withBody.has(call) ? JSON.parse(text) : {};
      if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new Error('the body is no JSON object');
      reply(200, await handler(body as Body));
    } catch (error) {
      reply(200, { [call.startsWith('IpamDriver.') ? 'Error' : 'Err']: (error as Error).message });
    }
  });
}
