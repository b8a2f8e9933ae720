/** On real sockets: nodes of ours on loopback addresses, and the same beside Serf's agent (Go's memberlist). */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import { createGossip, type Delegate, type Gossip } from './gossip.ts';
import { Keyring } from './keyring.ts';
import { openTransport } from './net-transport.ts';
import type { Address } from './messages.ts';
import type { Transport } from './transport.ts';
import type { Versions } from './versions.ts';

const KEY = Buffer.from('0123456789abcdef0123456789abcdef');
/** What Serf speaks on top of memberlist. */
const SERF: Versions = [1, 5, 2, 2, 5, 4];

async function start(t: Test, name: string, bind: Address, more: { key?: Buffer; versions?: Versions; meta?: Uint8Array; delegate?: Delegate } = {}): Promise<Gossip & { address: Address }> {
  const transport = await openTransport({ bind });
  const { key, ...rest } = more;
  const node = createGossip({ name, transport, clock, random, log, ...(key && { keyring: new Keyring(key) }), ...rest });
  t.teardown(() => node.shutdown());
  return Object.assign(node, { address: transport.address });
}

async function eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await condition()) return;
    await wait(50);
  }
  throw new Error(`not within ten seconds: ${what}`);
}

void test('two nodes on the loopback device', async (t) => {
  const heard: string[] = [];
  const first = await start(t, 'first', { host: '127.0.2.1', port: 0 }, { key: KEY, delegate: { onMessage: (message) => heard.push(message.toString()) } });
  const second = await start(t, 'second', { host: '127.0.2.2', port: 0 }, { key: KEY });
  t.same(await second.join([first.address]), { joined: 1, errors: [] });
  await eventually('both know both', () => first.member('second')?.state === 'alive' && second.member('first')?.state === 'alive');
  second.sendBestEffort('first', Buffer.from('a packet'));
  await second.sendReliable('first', Buffer.alloc(200_000, 'x'));
  await eventually('both messages', () => heard.length === 2);
  t.ok(heard.includes('a packet'));
  t.ok(heard.some((text) => text.length === 200_000));
  await second.leave({ timeoutMs: 1_000 });
  await eventually('it has left', () => first.member('second')?.state === 'left');
  t.match((await first.join([{ host: '127.0.2.9', port: first.address.port }])).errors[0]?.message, /ECONNREFUSED/);
});

void test('two nodes on IPv6', { skip: networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') ? false : 'this machine has no IPv6' }, async (t) => {
  const heard: string[] = [];
  const first = await start(t, 'first', { host: '::1', port: 0 }, { key: KEY, delegate: { onMessage: (message) => heard.push(message.toString()) } });
  const second = await start(t, 'second', { host: '0:0:0:0:0:0:0:1', port: 0 }, { key: KEY });
  t.same(await second.join([first.address]), { joined: 1, errors: [] });
  await eventually('both know both', () => first.member('second')?.state === 'alive' && second.member('first')?.state === 'alive');
  t.same(first.member('second')?.address, { host: '::1', port: second.address.port });
  second.sendBestEffort('first', Buffer.from('a packet'));
  await second.sendReliable('first', Buffer.from('a stream'));
  await eventually('both messages', () => heard.length === 2);
  t.ok(await first.ping('second') < 1_000);
});

void test('streams leave from the address that packets leave from: the bound one, or what the routes say', async (t) => {
  const open = async (host: string, advertise?: Address): Promise<Transport> => {
    const transport = await openTransport({ bind: { host, port: 0 }, ...(advertise && { advertise }) });
    t.teardown(() => transport.close());
    return transport;
  };
  const [target, bound, anywhere] = [await open('127.0.2.4'), await open('127.0.2.5'), await open('0.0.0.0')];
  const sources: string[] = [];
  target.onStream((_, from) => sources.push(from.host));
  target.onPacket((_, from) => sources.push(from.host));
  for (const each of [bound, anywhere]) {
    (await each.dial(target.address, 1_000)).close();
    each.send(Buffer.of(1), target.address);
    await eventually('both came', () => sources.length === 2);
    t.same(sources.splice(0), each === bound ? ['127.0.2.5', '127.0.2.5'] : ['127.0.0.1', '127.0.0.1']);
  }
});

void test('a port that is taken', async (t) => {
  const transport = await openTransport({ bind: { host: '127.0.2.3', port: 0 } });
  await t.rejects(openTransport({ bind: transport.address }), { code: 'WEFT-GOSSIP-BIND' });
  await transport.close();
});

const serf = existsSync('/usr/bin/serf');
for (const [i, title, flags, key] of [
  [1, 'in the clear, with compression', [], undefined], [2, 'encrypted', [`-encrypt=${KEY.toString('base64')}`], KEY],
] as const) {
  void test(`with Serf's agent, ${title}`, { skip: serf ? false : 'serf is not installed' }, async (t) => {
    const rpc = `127.0.1.${i}:17373`;
    const agent = spawn('/usr/bin/serf', ['agent', '-node=gopher', `-bind=127.0.1.${i}:17946`, `-rpc-addr=${rpc}`, '-log-level=debug', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    agent.stdout.on('data', (data: Buffer) => (output += data.toString()));
    t.teardown(async () => {
      const gone = once(agent, 'exit');
      agent.kill('SIGKILL');
      await gone;
    });
    const members = (): string => execFileSync('/usr/bin/serf', ['members', `-rpc-addr=${rpc}`], { encoding: 'utf8' });
    await eventually('the agent listens', () => output.includes('agent: Serf agent starting') && output.includes('RPC'));

    const heard: Buffer[] = [];
    const node = await start(t, 'weft', { host: `127.0.1.${i + 10}`, port: 0 }, { ...(key && { key: Buffer.from(key) }), versions: SERF, meta: Buffer.from('ff80', 'hex'), delegate: { onMessage: (message) => heard.push(message) } });
    await eventually('joined', async () => (await node.join([{ host: `127.0.1.${i}`, port: 17946 }])).joined === 1);
    t.match(members(), /weft +127\.0\.1\.1\d:\d+ +alive/);
    t.match(node.member('gopher'), { state: 'alive', versions: [1, 5, 2, 2, 5], meta: { length: 2 } });

    // Long enough for each to probe the other several times, and for its suspicion to come true if we did not answer.
    await wait(6_000);
    t.match(members(), /weft +127\.0\.1\.1\d:\d+ +alive/, 'it probes us, and we answer');
    t.equal(node.member('gopher')?.state, 'alive', 'we probe it, and it answers');
    t.notMatch(output, /suspect|Failed|ERR/i);

    execFileSync('/usr/bin/serf', ['event', `-rpc-addr=${rpc}`, 'deploy', 'payload']);
    await eventually('its user event reaches us', () => heard.some((message) => message.includes('deploy')));
    // Serf's own leave intent (its user message 0) first, or it takes a departure for a failure.
    node.broadcast(Buffer.concat([Buffer.of(0), Buffer.from('83a54c54696d6564a44e6f6465a477656674a55072756e65c2', 'hex')]));
    await wait(500);
    await node.leave({ timeoutMs: 2_000 });
    await eventually('it sees us as left', () => /weft .* left/.test(members()));
  });
}
