import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { systemRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { resolvConf } from './resolv-conf.ts';
import { A, fakeUpstream, outcome, question, until, type Reactions } from './testing.ts';
import { createUpstreams } from './upstreams.ts';

const saying = (ip: string): Reactions => (name) => [A(name, ip)];
/** Loopback addresses of this test process alone; all servers of a scene share a port. */
const address = (n: number): string => `127.77.${process.pid & 255}.${n}`;

async function scene(t: Test, ...reactions: (Reactions | 'closed')[]) {
  const clock = new VirtualClock();
  let port = 0;
  const servers: Awaited<ReturnType<typeof fakeUpstream>>[] = [];
  for (const [i, each] of reactions.entries()) {
    if (each === 'closed') continue;
    const server = await fakeUpstream(t, address(i + 1), port, each);
    port = server.port;
    servers[i] = server;
  }
  const upstreams = createUpstreams({ servers: () => reactions.map((_, i) => address(i + 1)), port, clock, random: systemRandom });
  t.teardown(upstreams.close);
  const ask = async (transport: 'udp' | 'tcp' = 'udp'): Promise<string> => {
    const query = question('name.example');
    const reply = await upstreams.ask(query, query.length, transport);
    if (typeof reply === 'string') return reply;
    t.equal(reply.readUInt16BE(0), query.readUInt16BE(0), 'the client\'s id');
    return outcome(reply);
  };
  return { clock, ask, servers, upstreams };
}

for (const transport of ['udp', 'tcp'] as const) {
  test(`${transport}: the first server answers; the others are left alone`, async (t) => {
    const { ask, servers } = await scene(t, saying('1.1.1.1'), saying('2.2.2.2'));
    t.equal(await ask(transport), '1.1.1.1');
    t.same(servers[1]!.queries, []);
  });

  test(`${transport}: a server that is not there, refuses or fails is passed over at once`, async (t) => {
    const { ask } = await scene(t, () => ({ rcode: 2 }), 'closed', saying('3.3.3.3'));
    t.equal(await ask(transport), '3.3.3.3');
    const failing = await scene(t, () => ({ rcode: 2 }), () => ({ rcode: 5 }));
    t.match(await failing.ask(transport), /SERVFAIL|REFUSED/, 'when all do, what they said');
    const unknown = await scene(t, () => ({ rcode: 3 }), saying('2.2.2.2'));
    t.equal(await unknown.ask(transport), 'NXDOMAIN', 'that is an answer');
  });

  test(`${transport}: silence is a time-out after four seconds`, async (t) => {
    const { ask, clock } = await scene(t, () => 'silence');
    const asked = ask(transport);
    await clock.advance(3999);
    t.equal(await Promise.race([asked, 'waiting']), 'waiting');
    await clock.advance(1);
    t.equal(await asked, 'timeout');
  });
}

test('nobody to ask', async (t) => {
  const { ask } = await scene(t);
  t.equal(await ask(), 'absent');
});

test('udp: a silent server is asked again, in turn with the others', async (t) => {
  let calls = 0;
  const { ask, clock, servers } = await scene(t, () => 'silence', (name) => (++calls === 2 ? [A(name, '2.2.2.2')] : 'silence'));
  const asked = ask();
  const total = (): number => servers.reduce((sum, { queries }) => sum + queries.length, 0);
  for (const expected of [1, 2, 3]) {
    await until(() => total() === expected);
    await clock.advance(1000);
  }
  t.equal(await asked, '2.2.2.2');
  t.equal(servers[0]!.queries.length, 2);
});

test('closing ends what is under way', async (t) => {
  const { ask, upstreams } = await scene(t, () => 'silence');
  const asked = [ask('udp'), ask('tcp')];
  upstreams.close();
  t.same(await Promise.all(asked), ['absent', 'absent']);
});

test('resolv.conf is read again when it changes', async (t) => {
  const path = join(t.testdir(), 'resolv.conf');
  const servers = resolvConf(path);
  t.same(servers(), []);
  writeFileSync(path, '# nameserver 9.9.9.9\nsearch example\nnameserver 10.0.0.1\nnameserver\t2001:db8::1 # two\n nameserver 1.2.3.4\nnameserver nonsense\nnameserver 10.0.0.1\n');
  t.same(servers(), ['10.0.0.1', '2001:db8::1']);
  writeFileSync(`${path}.new`, 'nameserver 10.0.0.2\n');
  renameSync(`${path}.new`, path);
  t.same(servers(), ['10.0.0.2']);
});
