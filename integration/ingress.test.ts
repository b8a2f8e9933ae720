/**
 *        outside 10.99.9.10: the client
 *           |
 *         router
 *        /  |  \
 *      h1  h3   h2           no Docker; h1 10.99.1.1, h3 10.99.1.3, h2 10.99.2.2
 *     near  shop  -          networks: web (near, shop), other (stranger, on h1)
 *  stranger                  shop publishes 8080, TCP and UDP, on every host
 *
 * The mesh: who is seen by a backend, whoever asks, by whichever host; and what the wires carry meanwhile.
 */
import { spawn } from 'node:child_process';
import tap, { test } from 'tap';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { OUTSIDER_ADDRESS, createLab } from './lab/lab.ts';
import { must, until, type Result } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

/** Answers everybody with the address and port it sees; keeps TCP connections open. */
const SERVER = `
require('node:net').createServer((s) => { s.on('error', () => {}); s.write(s.remoteAddress + ' ' + s.remotePort); }).listen(80, '0.0.0.0');
const u = require('node:dgram').createSocket('udp4', (_, r) => u.send(r.address + ' ' + r.port, r.port, r.address)); u.bind(80);
`;
/** Prints the answer of argv: protocol, address, port [, its own port]. An answer from another address does not count. */
const CLIENT = `
const [, protocol, address, port, localPort] = process.argv;
const fail = (what) => { console.error(what); process.exit(1); };
setTimeout(() => fail('no answer'), 2000);
const done = (data) => { console.log(String(data)); process.exit(0); };
if (protocol === 'tcp') require('node:net').connect({ host: address, port: Number(port), ...(localPort && { localPort: Number(localPort) }) }).on('error', (e) => fail(e.code)).on('data', done);
else { const u = require('node:dgram').createSocket('udp4'); u.on('error', (e) => fail(e.code)).on('message', done).connect(Number(port), address, () => u.send('?')); }
`;

test('the mesh keeps the client\'s address and sends answers back the way they came', async (t) => {
  const lab = await createLab({ name: 'ingress', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  const etcd = await startEtcd(h1);
  for (const host of [h1, h2, h3]) await weftUp(host, { store: etcd.url });
  const ok = async (result: Promise<Result>): Promise<void> => {
    const { code, stderr } = await result;
    if (code !== 0) throw new Error(stderr);
  };
  for (const name of ['web', 'other']) await ok(weft(h1, 'network', 'create', name));
  await until('h3 has the networks', async () => (await weftJson<object[]>(h3, 'network', 'ls')).length === 2);
  await ok(weft(h1, 'sandbox', 'add', 'near', '--network', 'web'));
  await ok(weft(h1, 'sandbox', 'add', 'stranger', '--network', 'other'));
  const shop = await weftJson<{ address: string }>(h3, 'sandbox', 'add', 'shop', '--network', 'web', '-p', '8080:80', '-p', '8080:80/udp');
  const shopIp = shop.address.split('/')[0]!;
  h3.spawn(['ip', 'netns', 'exec', 'shop', process.execPath, '-e', SERVER]);

  type Place = (command: readonly string[]) => Promise<Result>;
  const outside: Place = (command) => lab.on('outside', command);
  const on = (host: Host): Place => (command) => host.exec(command);
  const inside = (host: Host, sandbox: string): Place => (command) => host.exec(['ip', 'netns', 'exec', sandbox, ...command]);
  /** The address that the backend saw, or why there was no answer. */
  const seen = async (from: Place, protocol: string, address: string, port: number): Promise<string> => {
    const { code, stdout, stderr } = await from([process.execPath, '-e', CLIENT, protocol, address, String(port)]);
    return code === 0 ? stdout.split(' ')[0]! : stderr.trim();
  };
  await until('the port answers everywhere', async () => (await Promise.all([h1, h2, h3].map((host) => seen(outside, 'tcp', host.address, 8080)))).every((answer) => answer === OUTSIDER_ADDRESS), 10_000);

  const uplinkOf = async (host: Host): Promise<string> => /inet ([\d.]+)/.exec(await host.must(['ip', '-o', '-4', 'addr', 'show', 'weft-up']))![1]!;
  const cases: [string, Place, string, string][] = [
    ['a client, by a host of the backend\'s subnet', outside, h1.address, OUTSIDER_ADDRESS],
    ['a client, by a host of another subnet', outside, h2.address, OUTSIDER_ADDRESS],
    ['a client, by the backend\'s host', outside, h3.address, OUTSIDER_ADDRESS],
    ['a program of another host, by its own host', on(h2), h2.address, h2.address],
    ['a program of another host, by the backend\'s', on(h2), h3.address, h2.address],
    ['a program of the backend\'s host, by its own', on(h3), h3.address, h3.address],
    ['a program of the backend\'s host, by another', on(h3), h1.address, h3.address],
    ['a program by 127.0.0.1, backend elsewhere', on(h1), '127.0.0.1', await uplinkOf(h1)],
    ['a program by 127.0.0.1, backend here', on(h3), '127.0.0.1', await uplinkOf(h3)],
    ['a container, by its own host', inside(h1, 'near'), h1.address, await uplinkOf(h1)],
    ['a container, by another host', inside(h1, 'near'), h2.address, h1.address],
    ['a container of another network, by its own host', inside(h1, 'stranger'), h1.address, await uplinkOf(h1)],
    ['the backend itself, by its own host', inside(h3, 'shop'), h3.address, await uplinkOf(h3)],
    ['the backend itself, by another host', inside(h3, 'shop'), h1.address, h3.address],
  ];
  for (const [what, from, address, expected] of cases) {
    for (const protocol of ['tcp', 'udp']) t.equal(await seen(from, protocol, address, 8080), expected, `${what}: ${protocol}`);
  }
  t.not(await seen(inside(h1, 'stranger'), 'tcp', shopIp, 80), h1.address, 'a container of another network does not get there directly');

  await t.test('the wires: VXLAN between the hosts both ways, nothing past the host that was asked', async (tt) => {
    for (const protocol of ['tcp', 'udp']) {
      const [front, back] = await Promise.all([h2.capture('eth0', `host ${OUTSIDER_ADDRESS}`), h3.capture('eth0', `host ${OUTSIDER_ADDRESS} or udp port 4789`)]);
      tt.equal(await seen(outside, protocol, h2.address, 8080), OUTSIDER_ADDRESS);
      const [asked, answering] = [await front.stop(), await back.stop()];
      tt.match(asked, new RegExp(`${escape(OUTSIDER_ADDRESS)}\\.\\d+ > ${escape(h2.address)}\\.8080`), `${protocol}: the client speaks to the host it asked`);
      tt.match(asked, new RegExp(`${escape(h2.address)}\\.8080 > ${escape(OUTSIDER_ADDRESS)}`), `${protocol}: which answers`);
      const packets = answering.split(/\n(?=\d\d:)/);
      const tunnelled = (from: Host, to: Host, inner: RegExp): boolean => packets.some((packet) => new RegExp(`IP ${escape(from.address)}\\.\\d+ > ${escape(to.address)}\\.4789: VXLAN, flags \\[I\\] \\(0x08\\), vni 8388608`).test(packet) && inner.test(packet));
      tt.ok(tunnelled(h2, h3, new RegExp(`IP ${escape(OUTSIDER_ADDRESS)}\\.\\d+ > ${escape(shopIp)}\\.80:`)), `${protocol}: the backend's host gets it in the tunnel, with the client's address`, { answering });
      tt.ok(tunnelled(h3, h2, new RegExp(`IP ${escape(shopIp)}\\.80 > ${escape(OUTSIDER_ADDRESS)}\\.\\d+:`)), `${protocol}: the answer goes back in the tunnel`, { answering });
      tt.notOk(packets.some((packet) => packet.includes(OUTSIDER_ADDRESS) && !packet.includes('VXLAN')), `${protocol}: nothing outside of it`, { answering });
    }
  });

  await t.test('one client with one port of its own, by three hosts at once', async (tt) => {
    const clients = [h1, h2, h3].map((host) => {
      const child = spawn('ip', ['netns', 'exec', lab.namespace('outside'), process.execPath, '-e', CLIENT.replace('process.exit(0)', 'setTimeout(() => process.exit(0), 1000)'), 'tcp', host.address, '8080', '33333'], { stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      return new Promise<string>((resolve) => child.on('close', () => resolve(text.trim())));
    });
    const answers = await Promise.all(clients);
    for (const answer of answers) tt.match(answer, new RegExp(`^${escape(OUTSIDER_ADDRESS)} \\d+$`));
    tt.equal(new Set(answers).size, 3, 'each is a connection of its own');
  });

  await t.test('between containers no connection is tracked', async (tt) => {
    tt.equal((await inside(h1, 'near')(['busybox', 'ping', '-c', '1', '-W', '1', shopIp])).code, 0);
    for (const host of [h1, h3]) {
      tt.equal((await host.must(['conntrack', '-L', '-p', 'udp', '--dport', '4789'])).trim(), '', 'of the tunnel in the host');
      tt.notMatch((await host.must(['ip', 'netns', 'exec', 'weft', 'conntrack', '-L', '-p', 'icmp'])), shopIp, 'nor in the fabric');
    }
  });

  await t.test('an outsider who routes a pool at a host gets nothing', async (tt) => {
    await must(['ip', '-n', lab.namespace('outside'), 'route', 'add', `${shopIp}/32`, 'via', '10.99.9.254']);
    await must(['ip', '-n', lab.namespace('router'), 'route', 'add', `${shopIp}/32`, 'via', h3.address]);
    const arriving = await h3.capture('eth0', `host ${shopIp}`);
    tt.equal(await seen(outside, 'tcp', shopIp, 80), 'no answer');
    const packets = await arriving.stop();
    tt.match(packets, `> ${shopIp}.80: Flags [S]`, 'it comes to the host');
    tt.notMatch(packets, `${shopIp}.80 >`, 'and is not answered');
  });

  await ok(weft(h3, 'sandbox', 'rm', 'shop'));
  for (const host of [h1, h2, h3]) {
    await until(`the port of ${host.name} is closed`, async () => await seen(outside, 'tcp', host.address, 8080) === 'ECONNREFUSED', 5_000);
    t.notMatch(await host.must(['ss', '-Hlnt']), ':8080', `${host.name} holds the port no more`);
  }
});

const escape = (text: string): string => text.replaceAll('.', '\\.');
