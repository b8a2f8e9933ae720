/**
 *        router
 *      /   |   \
 *    h1   h2   h3     no Docker, etcd on h1; a network of 29 addresses, on each host a sandbox that sends to all the others
 *
 * Sandboxes come and go on two hosts, as many at a time as there are addresses, so that each address has dozens of owners one after the other; then, when
 * what was released has rested, on another two. Each packet says whom it is for: one that reaches another is a packet too many. From the first one on that
 * has come from a host, all of that host's arrive: one that is lost went to where its address had been before.
 *
 *   SANDBOXES=1000 SEED=7 node integration/address-reuse.test.ts
 */
import type { Socket } from 'node:dgram';
import tap, { test } from 'tap';
import type { NetworkAnswer, SandboxAnswer } from '../agent/api.ts';
import { withoutLength } from '../base/ip.ts';
import { type Random, seededRandom } from '../base/random.ts';
import { netnsOf, socketIn } from './faults/numbered-flow.ts';
import { kernelView, settledKernelViews } from './faults/views.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { control, weftJson, weftUp } from './lab/weft.ts';

const SANDBOXES = Number(process.env['SANDBOXES'] ?? 1_000);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
/** At a time on each of two hosts. */
const AT_ONCE = 12;
const HOLD_MS = 700;
/** Within this every host has to know a new one, on a busy machine. */
const KNOWN_MS = 20_000;
/** A packet that has not arrived by then is lost, also on a machine that stands still for seconds. */
const LOST_MS = 10_000;
const SEND_EVERY_MS = 50;
/** ipam/README.md */
const REST_MS = 60_000;
const PORT = 7000;
tap.setTimeout(600_000);

/** Who had an address for a time. `known`: senders that a packet has come from, with when; `sent`: theirs since then; `pending`: those that have not arrived, by number. */
interface Tenure { id: number; name: string; ip: string; host: Host; known: Map<number, number>; sent: number; pending: Map<number, { sender: number; at: number }>; until: number }
/** Instead of a packet's number: it does not count. */
const PROBE = 0xffff;

function lossesOf({ name, ip, host, known, sent, pending, until: end }: Tenure): string {
  const runs = [...pending.values()].map(({ sender, at }) => `of h${sender + 1} ${Math.round(at - known.get(sender)!)} ms after its first and ${Math.round(end - at)} ms before the end`);
  return `${name} of ${host.name} at ${ip}: ${pending.size} of ${sent} lost: ${runs.join(', ')}`;
}

class Storm {
  readonly tenures: Tenure[] = [];
  /** By address: who has it now. */
  readonly #owners = new Map<string, Tenure>();
  readonly misdelivered: string[] = [];
  readonly #network: string;
  readonly #senders: readonly Host[];

  constructor(network: string, senders: readonly Host[]) {
    this.#network = network;
    this.#senders = senders;
  }

  /** One sandbox, from its making to its removal. */
  async live(host: Host, random: Random): Promise<void> {
    const id = this.tenures.length;
    const name = `s${id}`;
    const tenure: Tenure = { id, name, ip: '', host, known: new Map(), sent: 0, pending: new Map(), until: 0 };
    this.tenures.push(tenure);
    const { address } = await control<SandboxAnswer>(host, 'POST', 'sandboxes', { name, network: this.#network });
    tenure.ip = withoutLength(address!);
    const socket = await socketIn({ netns: netnsOf(host, name), address: tenure.ip, port: PORT });
    try {
      socket.on('message', (packet) => {
        const wanted = this.tenures[packet.readUInt32LE(0)]!;
        if (wanted === tenure) {
          const sender = packet.readUInt8(4);
          if (!tenure.known.has(sender)) tenure.known.set(sender, performance.now());
          tenure.pending.delete(packet.readUInt16LE(5));
        } else this.misdelivered.push(`${wanted.name} of ${wanted.host.name} at ${wanted.ip}: reached ${tenure.name} of ${host.name}`);
      });
      this.#owners.set(tenure.ip, tenure);
      await until(`every host reaches ${name}`, () => tenure.known.size === this.#senders.length, KNOWN_MS).catch(async (error: Error) => {
        throw new Error(await this.#whoDoesNotReach(tenure), { cause: error });
      });
      await wait(HOLD_MS / 2 + random.int(HOLD_MS));
      this.#owners.delete(tenure.ip);
      tenure.until = performance.now();
      await until(`what was sent to ${name} arrives`, () => tenure.pending.size === 0, LOST_MS).catch(() => undefined);
    } finally {
      // It would keep the namespace.
      await new Promise<void>((done) => void socket.close(done));
    }
    await control(host, 'DELETE', `sandboxes/${name}`);
  }

  /** What each host has of a sandbox that some do not reach. */
  async #whoDoesNotReach({ name, ip, host, known }: Tenure): Promise<string> {
    const views = await Promise.all(this.#senders.map(async (each, i) => {
      const { endpoints } = (await control<NetworkAnswer[]>(each, 'GET', 'networks'))[0]!;
      const { stdout: kernel } = await each.exec(['sh', '-c', `ip -n weft neigh | grep '^${ip} '; ip -n weft route get ${ip}; bridge -n weft fdb | grep -c ' dst '`]);
      return `${each.name} (${known.has(i) ? 'reaches it' : 'does not'}): ${JSON.stringify(endpoints.filter((endpoint) => endpoint.ip === ip))}\n${kernel}`;
    }));
    return `${name} of ${host.name} at ${ip} is not reached by all within ${KNOWN_MS} ms\n${views.join('\n')}`;
  }

  send(socket: Socket, sender: number): void {
    for (const tenure of this.#owners.values()) {
      const counts = tenure.known.has(sender);
      const packet = Buffer.alloc(7);
      packet.writeUInt32LE(tenure.id, 0);
      packet.writeUInt8(sender, 4);
      packet.writeUInt16LE(counts ? tenure.sent : PROBE, 5);
      if (counts) tenure.pending.set(tenure.sent++, { sender, at: performance.now() });
      socket.send(packet, PORT, tenure.ip);
    }
  }
}

void test('addresses that go from hand to hand', async (t) => {
  const lab = await createLab({ name: 'reuse', hosts: 3 });
  t.teardown(() => lab.destroy());
  const hosts = [lab.host(1), lab.host(2), lab.host(3)] as const;
  const etcd = await startEtcd(hosts[0]);
  await Promise.all(hosts.map((host) => weftUp(host, { store: etcd.url })));
  await weftJson(hosts[0], 'network', 'create', '--subnet', '10.200.0.0/27', 'small');
  for (const host of hosts) await until(`${host.name} has it`, async () => (await control<object[]>(host, 'GET', 'networks')).length === 1);

  const storm = new Storm('small', hosts);
  const random = seededRandom(SEED);
  const senders: Socket[] = [];
  const addresses: string[] = [];
  for (const host of hosts) {
    const { address } = await control<SandboxAnswer>(host, 'POST', 'sandboxes', { name: 'sender', network: 'small' });
    addresses.push(withoutLength(address!));
    senders.push(await socketIn({ netns: netnsOf(host, 'sender'), address: addresses.at(-1)!, port: PORT }));
  }
  const timer = setInterval(() => senders.forEach((socket, i) => storm.send(socket, i)), SEND_EVERY_MS);
  t.teardown(() => {
    clearInterval(timer);
    for (const socket of senders) socket.close();
  });
  await Promise.all(hosts.map((host, i) => until(`${host.name} knows all senders`, async () => {
    const view = await kernelView(host);
    return addresses.every((address, of) => of === i || view.includes(`\n${address} dev `));
  })));
  const before = await settledKernelViews(hosts);

  const half = async (active: readonly Host[], total: number): Promise<void> => {
    await Promise.all(active.flatMap((host) => Array.from({ length: AT_ONCE }, async () => {
      while (storm.tenures.length < total) await storm.live(host, random);
    })));
  };
  await half([hosts[0], hosts[1]], SANDBOXES / 2);
  await wait(REST_MS);
  await half([hosts[1], hosts[2]], SANDBOXES);

  const owners = new Map<string, Tenure[]>();
  for (const tenure of storm.tenures) owners.set(tenure.ip, [...owners.get(tenure.ip) ?? [], tenure]);
  const reused = [...owners.values()].map((each) => each.length - 1);
  const moved = [...owners.values()].flatMap((each) => each.slice(1).filter((tenure, i) => tenure.host !== each[i]!.host));
  const sent = storm.tenures.reduce((sum, tenure) => sum + tenure.sent, 0);
  t.comment(JSON.stringify({ seed: SEED, sandboxes: storm.tenures.length, addresses: owners.size, reused: reused.reduce((sum, each) => sum + each, 0), moved: moved.length, sent }));
  t.ok(owners.size <= 29 && moved.length > 0 && sent > storm.tenures.length, 'addresses changed hands, also between hosts, and were sent to all the while');
  t.same(storm.misdelivered, [], 'nobody gets what is for another');
  t.same(storm.tenures.filter(({ pending }) => pending.size > 0).map(lossesOf), [], 'everything arrives');
  for (const [i, host] of hosts.entries()) {
    await until(`${host.name} is as before`, async () => (await kernelView(host)) === before[i], 20_000).catch(() => undefined);
    t.equal(await kernelView(host), before[i], `${host.name} is as before`);
  }
});
