import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { runConformance } from './conformance.ts';
import { memoryIpamDriver, memoryNetworkDriver } from './memory-driver.ts';
import { servePlugin } from './server.ts';
import type { IpamDriverHandlers, NetworkDriverHandlers } from './types.ts';

const directoryOf = (t: Test): string => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

/** Names of the checks that fail for the memory drivers with these handlers replaced. */
async function failing(t: Test, network: Partial<NetworkDriverHandlers> = {}, ipam: Partial<IpamDriverHandlers> = {}): Promise<string[]> {
  const socketPath = join(directoryOf(t), 'p.sock');
  const server = servePlugin({
    name: 'p', network: { ...memoryNetworkDriver(), ...network }, ipam: { ...memoryIpamDriver({ ranges: true }), ...ipam }, log: silentLogger, clock: systemClock,
  });
  await server.listen({ path: socketPath });
  try {
    const results = await runConformance({ socketPath });
    t.ok(results.length > 20);
    return results.filter(({ ok }) => !ok).map(({ check, detail }) => `${check}: ${detail}`);
  } finally {
    await server.close();
  }
}

test('server and memory drivers conform', async (t) => {
  t.same(await failing(t), []);
});

test('the kit finds what breaks Docker\'s rules', async (t) => {
  const network = memoryNetworkDriver();
  const ipam = memoryIpamDriver();
  let asked = 0;
  const cases: [string, RegExp, Partial<NetworkDriverHandlers>, Partial<IpamDriverHandlers>][] = [
    ['a Leave that fails for what it does not know', /removing what never was/, { leave: async () => Promise.reject(new Error('unknown')) }, {}],
    ['an endpoint on a network that is not there', /using what never was/, { createEndpoint: async () => ({ macAddress: '02:42:00:00:00:01' }) }, {}],
    ['no MAC address', /no MAC/, { createEndpoint: async () => ({}) }, {}],
    ['a gateway on an internal network', /internal network/, { join: async () => ({ interfaceName: { srcName: 'p', dstPrefix: 'eth' }, gateway: '10.0.0.1' }) }, {}],
    ['a Join without a link', /SrcName/, { join: async () => ({ interfaceName: { srcName: '', dstPrefix: 'eth' } }) }, {}],
    ['capabilities that change', /capabilities are the same/, { capabilities: () => ({ scope: 'local', connectivityScope: 'local', gwAllocChecker: asked++ === 1 }) }, {}],
    ['an address given out twice', /given out twice/, {}, { requestAddress: async ({ poolId }) => ({ address: poolId.replace(/0\/24$/, '5/24') }) }],
    ['an address without a length', /Expected address\/length/, {}, { requestAddress: async () => ({ address: '10.0.0.5' }) }],
    ['one pool for all', /pools chosen by the driver/, {}, { requestPool: async ({ pool }) => ({ poolId: 'p', pool: pool || '10.0.0.0/24' }) }],
    ['a release that fails', /releases succeed/, {}, { releasePool: async () => Promise.reject(new Error('unknown')) }],
  ];
  for (const [what, expected, brokenNetwork, brokenIpam] of cases) {
    const found = await failing(t, { ...network, ...brokenNetwork }, { ...ipam, ...brokenIpam });
    t.ok(found.some((each) => expected.test(each)), `${what}: ${found.join(' | ')}`);
  }
});

test('the kit against a server that accepts anything, and closes every connection', async (t) => {
  const socketPath = join(directoryOf(t), 'p.sock');
  const server = http.createServer({ requireHostHeader: false }, (request, response) => {
    request.resume().on('end', () => response.writeHead(200, { connection: 'close' }).end(request.url === '/Plugin.Activate' ? '{"Implements":["NetworkDriver","IpamDriver"]}' : '{}'));
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const failed = (await runConformance({ socketPath })).filter(({ ok }) => !ok).map(({ check }) => check);
  for (const check of ['connections are kept open', 'answers have the content type of the plugin API', 'an unknown call is a 404 with an error',
    'NetworkDriver: a call repeated without its body is refused', 'IpamDriver: wrong types are refused']) t.ok(failed.includes(check), check);
});

test('the kit where nobody listens', async (t) => {
  const results = await runConformance({ socketPath: '/nonexistent/p.sock' });
  t.ok(results.length > 0);
  t.ok(results.every(({ ok }) => !ok), 'all fail, none throws');
});
