import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { systemClock, type Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import { silentLogger, type Logger } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { memoryIpamDriver, memoryNetworkDriver } from './memory-driver.ts';
import { createPluginClient, type PluginClient } from './plugin-client.ts';
import { servePlugin, type PluginServer } from './server.ts';
import type { CreateEndpointRequest, NetworkDriverHandlers } from './types.ts';

const NETWORK = 'a'.repeat(64);
const ENDPOINT = 'b'.repeat(64);

interface Serving { path: string; client: PluginClient; server: PluginServer; json(call: string, body?: unknown): Promise<Record<string, unknown>> }

async function serve(t: Test, network: Partial<NetworkDriverHandlers> = {}, { clock = systemClock, log = silentLogger, onActivate = () => {} }: { clock?: Clock; log?: Logger; onActivate?: () => void } = {}): Promise<Serving> {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const path = join(directory, 'p.sock');
  const server = servePlugin({ name: 'p', network: { ...memoryNetworkDriver(), ...network }, ipam: memoryIpamDriver(), onActivate, log, clock });
  await server.listen({ path });
  const client = createPluginClient(path);
  t.teardown(async () => {
    client.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const json = async (call: string, body?: unknown): Promise<Record<string, unknown>> =>
    JSON.parse((await client.post(call, body === undefined ? undefined : JSON.stringify(body))).text) as Record<string, unknown>;
  return { path, client, server, json };
}

/** Sends text as it is on a connection of its own; all that comes back until the other side ends it or `until` matches. */
const raw = (path: string, text: string, until: RegExp): Promise<string> => new Promise((resolve, reject) => {
  let got = '';
  const socket = net.connect(path, () => socket.write(text));
  socket.on('data', (chunk) => {
    got += chunk.toString();
    if (until.test(got)) socket.destroy();
  });
  socket.on('close', () => resolve(got)).on('error', reject);
});

test('activation names what is implemented, and tells of a dockerd that begins', async (t) => {
  let begun = 0;
  const { client } = await serve(t, {}, { onActivate: () => void begun++ });
  const answer = await client.post('Plugin.Activate');
  t.equal(begun, 1);
  t.same(JSON.parse(answer.text), { Implements: ['NetworkDriver', 'IpamDriver'] });
  t.equal(answer.headers['content-type'], 'application/vnd.docker.plugins.v1.1+json');
});

test('a request as Go writes it, byte for byte', async (t) => {
  const { path } = await serve(t);
  const got = await raw(path, 'POST /NetworkDriver.GetCapabilities HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n', /\}\n/);
  t.match(got, /^HTTP\/1\.1 200 /);
  t.match(got, '"Scope":"local"');
});

test('connections are never closed for being idle', async (t) => {
  const { client } = await serve(t);
  const { headers } = await client.post('Plugin.Activate');
  t.equal(headers.connection, 'keep-alive');
  t.equal(headers['keep-alive'], undefined, 'no time limit is announced');
});

test('a call that needs a body and has none is an error, and the connection lives on', async (t) => {
  const { client, json } = await serve(t);
  t.match(await json('NetworkDriver.CreateEndpoint'), { Err: /^WEFT-INPUT-EMPTY: .*CreateEndpoint/ });
  t.match(await json('IpamDriver.RequestPool'), { Error: /^WEFT-INPUT-EMPTY: / });
  t.equal((await client.post('NetworkDriver.GetCapabilities')).status, 200);
});

test('malformed input', async (t) => {
  const { client, json } = await serve(t);
  for (const body of ['{', 'null', '[]', '"x"', '{"NetworkID":5}', '{"NetworkID":"../x"}', `{"NetworkID":"${'a'.repeat(65)}"}`]) {
    const answer = await client.post('NetworkDriver.DeleteNetwork', body);
    t.equal(answer.status, 200, body);
    t.match(JSON.parse(answer.text), { Err: /^WEFT-INPUT-/ }, body);
  }
  t.match(await json('NetworkDriver.Leave', { NetworkID: NETWORK, EndpointID: 7 }), { Err: /EndpointID: .*Expected string/ }, 'the path is named');
  const long = await json('NetworkDriver.DeleteNetwork', { NetworkID: NETWORK, padding: 'x'.repeat(1024 * 1024) });
  t.match(long, { Err: /WEFT-INPUT-MALFORMED: .*1048576/ });
});

test('an unknown call is a 404 with an error', async (t) => {
  const { client } = await serve(t);
  for (const call of ['NetworkDriver.Nothing', 'IpamDriver.Nothing', '', 'x'.repeat(5000)]) {
    const { status, text } = await client.post(call, '{}');
    t.equal(status, 404);
    t.match(JSON.parse(text), { Err: /^WEFT-CALL-UNKNOWN: / });
  }
});

test('optional calls without a handler', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const { gwAllocCheck: _, allocateNetwork: __, ...network } = memoryNetworkDriver();
  const server = servePlugin({ name: 'p', network, log: silentLogger, clock: systemClock });
  await server.listen({ path: join(directory, 'p.sock') });
  const client = createPluginClient(join(directory, 'p.sock'));
  t.teardown(async () => {
    client.close();
    await server.close();
    rmSync(directory, { recursive: true });
  });
  t.same(JSON.parse((await client.post('Plugin.Activate')).text), { Implements: ['NetworkDriver'] });
  t.equal((await client.post('NetworkDriver.FreeNetwork', JSON.stringify({ NetworkID: NETWORK }))).text, '{}\n');
  t.equal((await client.post('NetworkDriver.DiscoverNew', JSON.stringify({ DiscoveryType: 1, DiscoveryData: null }))).text, '{}\n');
  t.equal((await client.post('NetworkDriver.AllocateNetwork', JSON.stringify({ NetworkID: NETWORK }))).status, 404);
  t.equal((await client.post('NetworkDriver.GwAllocCheck', '{}')).status, 404);
  t.equal((await client.post('IpamDriver.GetCapabilities')).status, 404);
});

test('errors of handlers', async (t) => {
  const logged: unknown[] = [];
  const log: Logger = { ...silentLogger, error: (fields) => void logged.push(fields), child: () => log };
  const { json } = await serve(t, {
    deleteNetwork: async () => Promise.reject(weftError('WEFT-NETWORK-UNKNOWN', { network: 'x' })),
    leave: () => {
      throw new TypeError('a bug');
    },
    deleteEndpoint: async () => Promise.reject(new Error('')),
  }, { log });
  t.match(await json('NetworkDriver.DeleteNetwork', { NetworkID: NETWORK }), { Err: /^WEFT-NETWORK-UNKNOWN/ });
  t.equal(logged.length, 0, 'an error that the user can mend is not a fault of ours');
  t.same(await json('NetworkDriver.Leave', { NetworkID: NETWORK, EndpointID: ENDPOINT }), { Err: 'a bug' });
  t.match(logged, [{ call: 'NetworkDriver.Leave', err: { name: 'TypeError' } }]);
  t.same(await json('NetworkDriver.DeleteEndpoint', { NetworkID: NETWORK, EndpointID: ENDPOINT }), { Err: 'unknown error' }, 'an error without words stays an error');
});

test('an endpoint request is decoded', async (t) => {
  let seen: CreateEndpointRequest | undefined;
  const { json } = await serve(t, {
    createEndpoint: async (request) => {
      seen = request;
      return { address: '10.1.0.9/24', macAddress: '02:42:00:00:00:01' };
    },
  });
  const answer = await json('NetworkDriver.CreateEndpoint', {
    NetworkID: NETWORK,
    EndpointID: ENDPOINT,
    Interface: { Address: '10.1.0.2/24', AddressIPv6: '', MacAddress: '' },
    Options: {
      'com.docker.network.portmap': [
        { Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8081 },
        { Proto: 132, IP: '', Port: 9, HostIP: '127.0.0.1', HostPort: 0, HostPortEnd: 0 },
      ],
      'com.docker.network.endpoint.exposedports': [{ Proto: 17, Port: 53 }],
      'com.docker.network.endpoint.macaddress': 'AkKqu8zd',
      'com.docker.network.endpoint.dnsservers': ['10.9.9.9'],
      'com.docker.network.generic': { ChildEndpoints: null },
      'user.option': 'yes',
    },
    Unknown: 1,
  });
  t.same(seen, {
    networkId: NETWORK,
    endpointId: ENDPOINT,
    address: '10.1.0.2/24',
    macAddress: '02:42:aa:bb:cc:dd',
    portMap: [
      { protocol: 'tcp', containerPort: 80, hostPort: 8080, hostPortEnd: 8081, hostIp: '' },
      { protocol: 'sctp', containerPort: 9, hostPort: 0, hostPortEnd: 0, hostIp: '127.0.0.1' },
    ],
    exposedPorts: [{ protocol: 'udp', port: 53 }],
    dnsServers: ['10.9.9.9'],
    driverOptions: { 'user.option': 'yes' },
  });
  t.same(answer, { Interface: {} }, 'what Docker set itself is not sent back');
  t.same(await json('NetworkDriver.CreateEndpoint', { NetworkID: NETWORK, EndpointID: ENDPOINT, Interface: null, Options: null }),
    { Interface: { Address: '10.1.0.9/24', MacAddress: '02:42:00:00:00:01' } });
});

test('a network request is decoded, with what Docker leaves out or sends as null', async (t) => {
  const seen: unknown[] = [];
  const { json } = await serve(t, { createNetwork: async (request) => void seen.push(request) });
  await json('NetworkDriver.CreateNetwork', {
    NetworkID: 'k3b1nq0z7w5x9c8v6m4t2r0ys',
    Options: { 'com.docker.network.generic': { mtu: '1400' }, 'com.docker.network.enable_ipv6': true, 'com.docker.network.internal': true },
    IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.1.0.0/24', Gateway: '10.1.0.1/24', AuxAddresses: { nas: '10.1.0.9/24' } }],
    IPv6Data: null,
  });
  await json('NetworkDriver.CreateNetwork', { NetworkID: NETWORK, Options: { 'com.docker.network.generic': null, 'com.docker.network.enable_ipv4': false }, IPv4Data: [{ Pool: 'fd50::/64', AuxAddresses: {} }] });
  t.same(seen, [
    {
      networkId: 'k3b1nq0z7w5x9c8v6m4t2r0ys', options: { mtu: '1400' }, enableIpv4: true, enableIpv6: true, internal: true, ipv6: [],
      ipv4: [{ addressSpace: 'LocalDefault', pool: '10.1.0.0/24', gateway: '10.1.0.1/24', auxAddresses: { nas: '10.1.0.9/24' } }],
    },
    { networkId: NETWORK, options: {}, enableIpv4: false, enableIpv6: false, internal: false, ipv6: [], ipv4: [{ addressSpace: '', pool: 'fd50::/64', auxAddresses: {} }] },
  ]);
});

test('what swarm and newer engines ask for', async (t) => {
  const seen: unknown[] = [];
  const { json } = await serve(t, {
    allocateNetwork: async (request) => {
      seen.push(request);
      return { options: { vni: '7' } };
    },
    gwAllocCheck: async (request) => {
      seen.push(request);
      return { skipIpv4: true, skipIpv6: false };
    },
    discoverNew: async (request) => void seen.push(request),
  });
  // Swarm puts pools of both families into IPv4Data, and the user's options at the top.
  const networkId = 'k3b1nq0z7w5x9c8v6m4t2r0ys';
  t.same(await json('NetworkDriver.AllocateNetwork', { NetworkID: networkId, Options: { k: 'v' }, IPv4Data: [{ AddressSpace: '', Pool: 'fd50::/64' }], IPv6Data: null }), { Options: { vni: '7' } });
  t.same(await json('NetworkDriver.GwAllocCheck', { Options: { 'com.docker.network.generic': { k: 'v' } } }), { SkipIPv4: true, SkipIPv6: false });
  t.same(await json('NetworkDriver.DiscoverNew', { DiscoveryType: 1, DiscoveryData: { Address: '10.9.0.1', BindAddress: '10.9.0.2', Self: true } }), {});
  t.same(seen, [
    { networkId, options: { k: 'v' }, ipv4: [{ addressSpace: '', pool: 'fd50::/64', auxAddresses: {} }], ipv6: [] },
    { options: { k: 'v' }, enableIpv4: true, enableIpv6: false, internal: false },
    { type: 1, address: '10.9.0.1', bindAddress: '10.9.0.2', self: true },
  ]);
});

test('a Join answer in Docker\'s words', async (t) => {
  const { json } = await serve(t, {
    join: async ({ sandboxKey }) => ({
      interfaceName: { srcName: 'p0', dstPrefix: 'eth' }, gateway: '10.1.0.1', disableGatewayService: true,
      staticRoutes: [{ destination: '10.2.0.0/16', nextHop: sandboxKey }, { destination: '10.3.0.0/16' }],
    }),
  });
  t.same(await json('NetworkDriver.Join', { NetworkID: NETWORK, EndpointID: ENDPOINT, SandboxKey: '10.1.0.7', Options: null }), {
    InterfaceName: { SrcName: 'p0', DstPrefix: 'eth' }, Gateway: '10.1.0.1', DisableGatewayService: true,
    StaticRoutes: [{ Destination: '10.2.0.0/16', RouteType: 0, NextHop: '10.1.0.7' }, { Destination: '10.3.0.0/16', RouteType: 1 }],
  });
});

test('a handler that takes too long is answered for; its end is logged', async (t) => {
  const clock = new VirtualClock();
  const warned: unknown[] = [];
  const log: Logger = { ...silentLogger, warn: (fields) => void warned.push(fields), child: () => log };
  const entered = Promise.withResolvers<void>();
  const work = Promise.withResolvers<void>();
  const { json } = await serve(t, {
    leave: () => {
      entered.resolve();
      return work.promise;
    },
  }, { clock, log });
  const answer = json('NetworkDriver.Leave', { NetworkID: NETWORK, EndpointID: ENDPOINT });
  await entered.promise;
  await clock.advance(10_000);
  t.match(await answer, { Err: /^WEFT-CALL-TIMEOUT: NetworkDriver\.Leave took longer than 10 s/ });
  t.same(warned, []);
  await clock.advance(2_000);
  work.resolve();
  await clock.advance(0);
  t.same(warned, [{ call: 'NetworkDriver.Leave', ms: 12_000 }]);
});

test('every call is logged with its time', async (t) => {
  const lines: object[] = [];
  const log: Logger = { ...silentLogger, debug: (fields) => void lines.push(fields), child: () => log };
  const { json } = await serve(t, {}, { log });
  await json('NetworkDriver.GetCapabilities');
  await json('NetworkDriver.Leave');
  t.match(lines, [{ call: 'NetworkDriver.GetCapabilities', us: Number }, { call: 'NetworkDriver.Leave', us: Number, error: /WEFT-INPUT-EMPTY/ }]);
});

test('the socket file: mode, and a stale one is replaced', async (t) => {
  const { path } = await serve(t);
  t.equal(statSync(path).mode & 0o777, 0o600);
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const stale = join(directory, 's.sock');
  writeFileSync(stale, '');
  chmodSync(stale, 0o777);
  const server = servePlugin({ name: 's', network: memoryNetworkDriver(), log: silentLogger, clock: systemClock });
  await server.listen({ path: stale });
  t.ok(statSync(stale).isSocket());
  t.equal(statSync(stale).mode & 0o777, 0o600);
  await server.close();
  await t.rejects(server.listen({ path: join(directory, 'none', 's.sock') }), { code: /ENOENT|EACCES/ });
  rmSync(directory, { recursive: true });
});

test('an inherited listening socket is served', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const path = join(directory, 'i.sock');
  const listening = net.createServer();
  await new Promise<void>((resolve) => listening.listen(join(directory, 'made.sock'), resolve));
  // Moved aside, so that the file outlives this process's end of the socket, as systemd's does.
  renameSync(join(directory, 'made.sock'), path);
  const { fd } = (listening as unknown as { _handle: { fd: number } })._handle;
  const script = `
    import { systemClock } from '${import.meta.dirname}/../base/clock.ts';
    import { silentLogger } from '${import.meta.dirname}/../base/log.ts';
    import { memoryNetworkDriver } from '${import.meta.dirname}/memory-driver.ts';
    import { servePlugin } from '${import.meta.dirname}/server.ts';
    const server = servePlugin({ name: 'i', network: memoryNetworkDriver(), log: silentLogger, clock: systemClock });
    await server.listen({ fd: 3 });
    process.once('SIGTERM', () => server.close());`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'inherit', 'inherit', fd] });
  listening.close();
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const client = createPluginClient(path);
  t.teardown(() => {
    client.close();
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  t.equal((await client.post('Plugin.Activate')).status, 200);
  child.kill('SIGTERM');
  t.equal(await exited, 0, 'ends by itself once closed');
  t.ok(statSync(path).isSocket(), 'the file stays: it is not ours');
});

test('closing: idle connections end, a running call is finished', async (t) => {
  const entered = Promise.withResolvers<void>();
  const work = Promise.withResolvers<void>();
  const { client, server, json } = await serve(t, {
    leave: () => {
      entered.resolve();
      return work.promise;
    },
  });
  await client.post('Plugin.Activate');
  const answer = json('NetworkDriver.Leave', { NetworkID: NETWORK, EndpointID: ENDPOINT });
  await entered.promise;
  const closed = server.close();
  work.resolve();
  t.same(await answer, {});
  await closed;
  await t.rejects(client.post('Plugin.Activate'), { code: /ENOENT|ECONNREFUSED/ });
});

test('closing: a call that does not end is given up after a second', async (t) => {
  const clock = new VirtualClock();
  const entered = Promise.withResolvers<void>();
  const { server, json } = await serve(t, {
    leave: () => {
      entered.resolve();
      return new Promise(() => {});
    },
  }, { clock });
  const answer = json('NetworkDriver.Leave', { NetworkID: NETWORK, EndpointID: ENDPOINT });
  await entered.promise;
  const closed = server.close();
  const refused = t.rejects(answer, { code: 'ECONNRESET' });
  await clock.advance(1_000);
  await Promise.all([closed, refused]);
});
