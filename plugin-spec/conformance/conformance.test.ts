import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { memoryIpamDriver, memoryNetworkDriver } from '../memory-driver.ts';
import { servePlugin } from '../server.ts';
import { CHECKS, runConformance, type ConformanceOptions, type Report } from './conformance.ts';
import { examplePlugin, ipamDriver, networkDriver, type Handler } from './example-plugin.ts';
import { FAULTS } from './faults-for-tests.ts';

const directoryOf = (t: Test): string => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

async function serve(t: Test, server: net.Server): Promise<string> {
  const socketPath = join(directoryOf(t), 'p.sock');
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.teardown(() => {
    server.close();
    if (server instanceof http.Server) server.closeAllConnections();
  });
  return socketPath;
}

const run = async (t: Test, server: http.Server, options: Partial<ConformanceOptions> = {}): Promise<Report> => runConformance({ socketPath: await serve(t, server), ...options });

const named = ({ results }: Report, ...status: string[]): string[] => results.filter((result) => status.includes(result.status)).map(({ name, detail }) => `${name}: ${detail}`);

/** What a plugin holds, by the calls that it accepted. */
function watched(handlers: Record<string, Handler>): { handlers: Record<string, Handler>; held: Set<string>; calls: [string, Record<string, unknown>][] } {
  const held = new Set<string>();
  const calls: [string, Record<string, unknown>][] = [];
  const key = ({ NetworkID, EndpointID, PoolID, Address }: Record<string, unknown>): string => [NetworkID, EndpointID, PoolID, Address].filter((each) => each !== undefined).join(' | ');
  const watch = (call: string, handler: Handler): Handler => async (body) => {
    calls.push([call, body]);
    const answer = await handler(body) as Record<string, unknown>;
    if (call === 'IpamDriver.RequestPool') held.add(key({ PoolID: answer['PoolID'] }));
    else if (call === 'IpamDriver.RequestAddress') held.add(key({ PoolID: body['PoolID'], Address: String(answer['Address']).split('/')[0] }));
    else if (call.includes('Create')) held.add(key({ NetworkID: body['NetworkID'], EndpointID: body['EndpointID'] }));
    // What is in a network or a pool goes with it.
    else if (/Delete(Network|Endpoint)|Release/.test(call)) for (const each of held) if (`${each} |`.startsWith(`${key(body)} |`)) held.delete(each);
    return answer;
  };
  return { held, calls, handlers: Object.fromEntries(Object.entries(handlers).map(([call, handler]) => [call, watch(call, handler)])) };
}

test('every check has a fault that it finds', async (t) => {
  t.same(Object.keys(FAULTS).sort(), CHECKS.map(({ name }) => name).sort());
  t.equal(new Set(CHECKS.map(({ name }) => name)).size, CHECKS.length, 'names are different');
  for (const { name, level } of CHECKS) {
    const report = await run(t, FAULTS[name]!(), { only: [name], timeoutMs: 2_000 });
    const [result] = report.results;
    t.equal(result?.status, level === 'must' ? 'failed' : 'advice', name, { found: report.results });
    t.ok(result?.detail, `${name}: ${result?.detail}`);
    if (level === 'should') t.ok(report.conforms, `${name}: advice is no failure`);
    else t.notOk(report.conforms, name);
  }
});

test('a correct plugin conforms, and is left as it was', async (t) => {
  const { handlers, held, calls } = watched({ ...networkDriver(), ...ipamDriver() });
  const report = await run(t, examplePlugin(handlers), { subnet: '10.64.0.0/18' });
  t.same(named(report, 'failed', 'advice'), []);
  t.same(named(report, 'skipped').map((each) => each.split(':')[0]), ['swarm', 'replay'], 'only what it does not claim');
  t.ok(report.conforms);
  t.same([...held], []);
  t.ok(calls.length > 200);
  const ids = calls.flatMap(([, { NetworkID, EndpointID }]) => [NetworkID, EndpointID]).filter((id) => typeof id === 'string');
  t.ok(ids.every((id) => /^decaf[0-9a-z]+$/.test(id)), 'ids are recognisable');
  const pools = calls.filter(([call]) => call === 'NetworkDriver.CreateNetwork').map(([, { IPv4Data }]) => (IPv4Data as { Pool?: string }[])[0]?.Pool).filter(Boolean);
  t.ok(pools.every((pool) => /^10\.64\.\d+\.0\/24$/.test(pool!)), 'the subnet is the one that was chosen');
});

test('the same for scope global, for replay, and for one driver alone', async (t) => {
  const global = await run(t, examplePlugin(networkDriver({ scope: 'global' })));
  t.same(named(global, 'failed', 'advice', 'skipped'), []);
  t.same(global.implements, ['NetworkDriver']);
  t.notOk(global.results.some(({ driver }) => driver === 'IpamDriver'));
  const replaying = await run(t, examplePlugin(ipamDriver({ replay: true })));
  t.same(named(replaying, 'failed', 'advice'), []);
  t.ok(replaying.results.some(({ name, status }) => name === 'replay' && status === 'ok'));
});

test('the plugin server of this project with drivers in memory conforms', async (t) => {
  const socketPath = join(directoryOf(t), 'p.sock');
  const server = servePlugin({ name: 'p', network: memoryNetworkDriver({ gwAllocChecker: true }), ipam: memoryIpamDriver({ ranges: true }), log: silentLogger, clock: systemClock });
  await server.listen({ path: socketPath });
  t.teardown(() => server.close());
  t.same(named(await runConformance({ socketPath }), 'failed', 'advice'), []);
});

test('a plugin that dies is found dead once', async (t) => {
  const report = await run(t, FAULTS['half-request']!());
  const [died, ...rest] = report.results.slice(report.results.findIndex(({ name }) => name === 'half-request'));
  t.equal(died?.status, 'failed');
  t.match(died?.detail, /answers no more/);
  t.ok(rest.length > 20);
  t.ok(rest.every(({ status, detail }) => status === 'skipped' && detail.includes('since half-request')));
  t.notOk(report.conforms);
});

test('what cannot be removed is named', async (t) => {
  const handlers = { ...networkDriver(), 'NetworkDriver.DeleteNetwork': () => ({ Err: 'never' }) };
  const report = await run(t, examplePlugin(handlers), { only: ['network'] });
  t.notOk(report.conforms);
  t.equal(report.leftovers.length, 1);
  t.match(report.leftovers[0], /^NetworkDriver\.DeleteNetwork \{"NetworkID":"decaf[0-9a-f]{59}"\}: never$/);
});

test('a plugin that answers too late', async (t) => {
  const { handlers, held } = watched({ ...networkDriver(), 'NetworkDriver.Join': () => new Promise(() => {}) });
  const report = await run(t, examplePlugin(handlers), { only: ['network'], timeoutMs: 200 });
  t.same(named(report, 'failed'), ['network: NetworkDriver.Join: no answer within 0.2 s']);
  t.same([...held], []);
});

test('interrupted, the kit gives back what it made', async (t) => {
  const interruption = new AbortController();
  const correct = { ...networkDriver(), ...ipamDriver() };
  const { handlers, held } = watched({ ...correct, 'NetworkDriver.EndpointOperInfo': (body) => {
    interruption.abort();
    return correct['NetworkDriver.EndpointOperInfo']!(body);
  } });
  const report = await run(t, examplePlugin(handlers), { signal: interruption.signal });
  t.ok(report.interrupted);
  t.notOk(report.conforms);
  t.ok(report.results.some(({ status, detail }) => status === 'skipped' && detail === 'interrupted'));
  t.same([...held], []);
});

test('where there is no plugin', async (t) => {
  const directory = directoryOf(t);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  const cases: [string, RegExp][] = [
    [join(directory, 'absent.sock'), /there is no such file/],
    [file, /no socket/],
    [await serve(t, net.createServer((socket) => socket.end('220 mail.example ESMTP\r\n'))), /no Docker network plugin/],
    [await serve(t, http.createServer((_, response) => response.writeHead(404).end('404 page not found'))), /no Docker network plugin.*404 page not found/],
    [await serve(t, http.createServer((_, response) => response.end('{"Implements":["VolumeDriver"]}'))), /no Docker network plugin.*expected NetworkDriver or IpamDriver/],
  ];
  for (const [socketPath, message] of cases) await t.rejects(runConformance({ socketPath, timeoutMs: 1_000 }), { message }, socketPath);
  const socketPath = await serve(t, examplePlugin(networkDriver()));
  await t.rejects(runConformance({ socketPath, only: ['netwrok'] }), /There is no check netwrok/);
  await t.rejects(runConformance({ socketPath, only: ['pool'] }), /implements NetworkDriver only/);
  for (const subnet of ['10.0.0.0/24', 'fd00::/16', 'nonsense']) await t.rejects(runConformance({ socketPath, subnet }), /no IPv4 subnet/);
});
