import { createSocket } from 'node:dgram';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger, type Logger } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { createHostNames } from './host-names.ts';
import { openHostDns, routeByResolved, serveHost } from './host-stub.ts';
import { exchangeOverTcp } from './tcp-exchange.ts';
import { outcome, question } from './testing.ts';
import { createNameTable } from './zone.ts';

/** Of this test process alone. */
const ADDRESS = `127.79.${process.pid & 255}.${(process.pid >> 8) & 127 | 1}`;

function chain() {
  const names = createNameTable();
  names.put({ networkId: 'n1', networkName: 'web', endpointId: 'e1', ip: '10.1.0.5', name: 'c1', names: [], service: 'c1' });
  return createHostNames({ names, networks: () => [{ id: 'n1', name: 'web' }], ttl: 5, random: seededRandom(1), count: () => {} });
}
const options = () => ({ chain: chain(), batches: true, clock: systemClock, log: silentLogger, onDrop: () => {} });

async function overUdp(t: Test, name: string): Promise<string> {
  const socket = createSocket('udp4');
  t.teardown(() => socket.close());
  const reply = new Promise<Buffer>((resolve, reject) => socket.on('message', resolve).on('error', reject));
  socket.connect(53, ADDRESS, () => socket.send(question(name)));
  return outcome(await reply);
}

async function overTcp(name: string): Promise<string> {
  const query = question(name);
  const reply = await exchangeOverTcp(connect(53, ADDRESS), query, query.length, { clock: systemClock, timeoutMs: 4_000 });
  return typeof reply === 'string' ? reply : outcome(reply);
}

test('an address of the loopback answers over UDP and TCP, until it is closed', async (t) => {
  const stub = serveHost({ ...options(), address: ADDRESS });
  t.equal(await overUdp(t, 'c1.web.weft'), '10.1.0.5');
  t.equal(await overTcp('c1.web.weft'), '10.1.0.5');
  t.throws(() => serveHost({ ...options(), address: ADDRESS }), { code: 'EADDRINUSE' });
  stub.close();
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(await overTcp('c1.web.weft'), 'absent');
  const again = serveHost({ ...options(), address: ADDRESS });
  t.equal(await overTcp('c1.web.weft'), '10.1.0.5', 'and again');
  again.close();
});

function resolvedAt(t: Test, runs: boolean) {
  const folder = t.testdir();
  const running = join(folder, 'resolve');
  if (runs) mkdirSync(running);
  let reloads = 0;
  return { resolved: { running, dropIn: join(folder, 'resolved.conf.d', 'weft.conf'), reload: async () => void reloads++ }, reloads: () => reloads };
}

test('systemd-resolved is told once, and once more when it is over', async (t) => {
  const { resolved, reloads } = resolvedAt(t, true);
  t.equal(await routeByResolved({ ...resolved, address: undefined }), false);
  t.equal(reloads(), 0, 'it is not disturbed where nothing was ever set up');
  for (let starts = 0; starts < 2; starts++) t.equal(await routeByResolved({ ...resolved, address: ADDRESS }), true);
  t.equal(reloads(), 1);
  t.match(readFileSync(resolved.dropIn, 'utf8'), `[Resolve]\nDNS=${ADDRESS}\nDomains=~weft\n`);
  for (let starts = 0; starts < 2; starts++) t.equal(await routeByResolved({ ...resolved, address: undefined }), false);
  t.equal(reloads(), 2);
  t.notOk(existsSync(resolved.dropIn));
  const absent = resolvedAt(t, false);
  t.equal(await routeByResolved({ ...absent.resolved, address: ADDRESS }), false, 'it does not run here');
  t.notOk(existsSync(absent.resolved.dropIn));
});

test('on, on again after a restart, off; and an address that is taken is no reason not to start', async (t) => {
  const { resolved } = resolvedAt(t, true);
  const warnings: object[] = [];
  const log = { ...silentLogger, warn: (fields: object) => void warnings.push(fields) } as unknown as Logger;
  const first = openHostDns({ ...options(), address: ADDRESS, resolved, log });
  t.equal(await overUdp(t, 'c1.web.weft'), '10.1.0.5');
  first.close();
  t.ok(existsSync(resolved.dropIn), 'weftd is back soon');
  await new Promise((resolve) => setImmediate(resolve));
  const second = openHostDns({ ...options(), address: ADDRESS, resolved, log });
  t.equal(await overUdp(t, 'c1.web.weft'), '10.1.0.5');
  t.same(warnings, []);
  openHostDns({ ...options(), address: ADDRESS, resolved, log }).close();
  t.match(warnings, [{ address: ADDRESS, detail: /address already in use|EADDRINUSE/ }]);
  second.close();
  openHostDns({ ...options(), address: undefined, resolved, log }).close();
  await new Promise((resolve) => setImmediate(resolve));
  t.notOk(existsSync(resolved.dropIn));
});

test('changed while weftd runs', async (t) => {
  const { resolved, reloads } = resolvedAt(t, true);
  const host = openHostDns({ ...options(), address: undefined, resolved });
  t.teardown(host.close);
  t.same(await host.change(undefined), { address: undefined, resolved: false });
  t.equal(reloads(), 0, 'nothing has changed');
  t.same(await host.change(ADDRESS), { address: ADDRESS, resolved: true });
  t.equal(await overUdp(t, 'c1.web.weft'), '10.1.0.5');
  await host.change(ADDRESS);
  t.equal(reloads(), 1);
  await t.rejects(host.change('192.0.2.1'), { code: 'WEFT-DNS-ADDRESS' });
  t.same(host.state(), { address: ADDRESS, resolved: true }, 'as it was');
  t.equal(await overTcp('c1.web.weft'), '10.1.0.5');
  const other = ADDRESS.replace(/^127\.79/, '127.78');
  t.match(await Promise.all([host.change(undefined), host.change(other)]), [{ address: undefined }, { address: other }]);
  t.same(host.state(), { address: other, resolved: true }, 'what is said last counts');
  t.match(readFileSync(resolved.dropIn, 'utf8'), `DNS=${other}\n`);
  t.equal(await overTcp('c1.web.weft'), 'absent');
  t.same(await host.change(undefined), { address: undefined, resolved: false });
  t.notOk(existsSync(resolved.dropIn));
  const untold = openHostDns({ ...options(), address: undefined, resolved: { ...resolved, reload: () => Promise.reject(new Error('no bus')) } });
  t.teardown(untold.close);
  t.same(await untold.change(ADDRESS), { address: ADDRESS, resolved: false }, 'it is answered all the same');
});
