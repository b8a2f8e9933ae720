import { test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAnswerCache } from './answer-cache.ts';
import { createCachingForwarder } from './caching.ts';
import { createChain } from './chain.ts';
import type { DockerResolver } from './docker-resolver.ts';
import { createHostNames } from './host-names.ts';
import { createNearness } from './nearness.ts';
import { createOwnRecords } from './own-records.ts';
import { createMemory } from './remembered.ts';
import { decode, outcome, question } from './testing.ts';
import { createNameTable } from './zone.ts';

const out = Buffer.alloc(4_096);

/** A sandbox on a network where 'api' has what is put; `ms`: round trips to the other nodes. */
function scene(ms: Record<string, number>) {
  const clock = new VirtualClock();
  const nearness = createNearness({ roundTrip: (node) => ms[node], clock, onChange: () => names.reorder() });
  const names = createNameTable(nearness.stepOf);
  const random = seededRandom(1);
  const direct: DockerResolver = { ask: () => Promise.resolve('absent'), isAbsent: () => true, close: () => {} };
  const source = { direct, cached: createCachingForwarder({ cache: createAnswerCache(1 << 20), scope: '', forwarder: direct, clock }) };
  const chain = createChain({
    names, records: createOwnRecords(), networks: () => networks, docker: source, upstreams: () => ({ ...source, encrypted: false }), ttl: 5, remembered: createMemory({ now: clock.now, random })(), random, count: () => {},
  });
  const host = createHostNames({ names, networks: () => networks.joined, ttl: 5, random, count: () => {} });
  const networks = { joined: [{ id: 'n1', name: 'web', suffix: 'web' }], subnets: [], passing: [], internal: false, ipv4: true, elsewhere: false };
  let remembered = 0;
  const ask = (type?: string): string => {
    const message = question('api', type);
    const again = chain.known().write(message, message.length, out);
    if (again > 0) remembered++;
    return outcome(out.subarray(0, again || chain(message, 'udp', out) as number));
  };
  return {
    names, clock, nearness, ask, remembered: () => remembered,
    /** The same asked by a program of the host. */
    askHost: (type?: string): string => outcome(out.subarray(0, host(question('api.web.weft', type), 'udp', out) as number)),
    /** 'priority target' of each in its order, and the addresses given with them, in a sandbox or of the host's. */
    services: (of: 'sandbox' | 'host', transport: 'udp' | 'tcp' = 'udp') => {
      const length = of === 'host' ? host(question('_80._tcp.api.web.weft', 'SRV'), transport, out) : chain(question('_80._tcp.api', 'SRV'), transport, out);
      const { answers, additionals, flag_tc: isCut } = decode(out.subarray(0, length as number));
      const targets = answers!.map((each) => (each.type === 'SRV' ? `${each.data.priority} ${each.data.target}` : each.type));
      return { targets, addresses: additionals!.map((each) => (each as { data: string }).data), isCut };
    },
    put: (ip: string, node?: string, ip6?: string) => names.put({ networkId: 'n1', networkName: 'web', endpointId: ip, ip, ...(ip6 !== undefined && { ip6 }), name: `c-${ip.replaceAll('.', '-')}`, names: ['api'], service: 'api', ports: ['tcp/80'] }, node),
    /** All answers there are, in alphabetical order. */
    answers: (type?: string) => [...new Set(Array.from({ length: 200 }, () => ask(type)))].sort(),
  };
}

test('this node\'s first, then the nearest; those that are equally near take turns', async (t) => {
  const { put, answers, remembered } = scene({ near: 9, nearer: 0.3, rack: 4.9, far: 80 });
  put('10.0.0.9', 'unknown');
  put('10.0.0.8', 'far');
  put('10.0.0.3', 'near');
  put('10.0.0.2', 'rack');
  put('10.0.0.1', 'nearer');
  t.same(answers(), ['10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.8 10.0.0.9', '10.0.0.2 10.0.0.1 10.0.0.3 10.0.0.8 10.0.0.9'], 'some milliseconds make no difference');
  put('10.0.0.5');
  for (const answer of answers()) t.match(answer, /^10\.0\.0\.5 (10\.0\.0\.1 10\.0\.0\.2|10\.0\.0\.2 10\.0\.0\.1) 10\.0\.0\.3 10\.0\.0\.8 10\.0\.0\.9$/);
  put('10.0.0.4');
  for (const answer of answers()) t.match(answer, /^(10\.0\.0\.4 10\.0\.0\.5|10\.0\.0\.5 10\.0\.0\.4) (10\.0\.0\.1 10\.0\.0\.2|10\.0\.0\.2 10\.0\.0\.1) 10\.0\.0\.3 10\.0\.0\.8 10\.0\.0\.9$/);
  t.equal(new Set(answers().map((answer) => answer.split(' ')[0])).size, 2);
  t.ok(remembered() > 500, 'most of them in remembered bytes');
});

test('each family by itself', async (t) => {
  const { put, answers } = scene({ far: 80 });
  put('10.0.0.8', 'far', 'fd00::8');
  put('10.0.0.1', undefined, 'fd00::1');
  put('10.0.0.2');
  t.same(answers('AAAA'), ['fd00::1 fd00::8']);
  t.same(answers(), ['10.0.0.1 10.0.0.2 10.0.0.8', '10.0.0.2 10.0.0.1 10.0.0.8']);
  for (const answer of answers('ANY')) t.match(answer, /^10\.0\.0\.[12] 10\.0\.0\.[12] 10\.0\.0\.8 fd00::1 fd00::8$/);
});

test('programs of the host are told the same order', async (t) => {
  const { put, askHost } = scene({ near: 9, far: 80 });
  const answers = (type?: string): string[] => [...new Set(Array.from({ length: 200 }, () => askHost(type)))].sort();
  put('10.0.0.8', 'far', 'fd00::8');
  put('10.0.0.3', 'near');
  t.same(answers(), ['10.0.0.3 10.0.0.8']);
  put('10.0.0.1', undefined, 'fd00::1');
  put('10.0.0.2');
  t.same(answers(), ['10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.8', '10.0.0.2 10.0.0.1 10.0.0.3 10.0.0.8']);
  t.same(answers('AAAA'), ['fd00::1 fd00::8']);
  for (const answer of answers('ANY')) t.match(answer, /^10\.0\.0\.[12] 10\.0\.0\.[12] 10\.0\.0\.3 10\.0\.0\.8 fd00::1 fd00::8$/);
});

test('SRV: the order is in the priority, lower first, the same where they are equally near', async (t) => {
  const { put, services } = scene({ rack: 4.9, near: 9, far: 80 });
  put('10.0.0.9', 'unknown');
  put('10.0.0.8', 'far');
  put('10.0.0.3', 'near');
  put('10.0.0.2', 'rack');
  put('10.0.0.1');
  put('10.0.0.7', 'far');
  for (const [of, domain] of [['sandbox', 'web'], ['host', 'web.weft']] as const) {
    const seen = new Set<string>();
    for (let i = 0; i < 100; i++) {
      const { targets, addresses } = services(of);
      seen.add(targets.join(' '));
      t.same(targets.toSorted(), ['0 c-10-0-0-1', '1 c-10-0-0-2', '2 c-10-0-0-3', '5 c-10-0-0-7', '5 c-10-0-0-8', '65535 c-10-0-0-9'].map((each) => `${each}.${domain}`));
      t.same(targets.map((each) => each.split(' ')[0]), ['0', '1', '2', '5', '5', '65535'], 'for clients that take the first');
      t.same(addresses, targets.map((each) => /c-([\d-]+)/.exec(each)![1]!.replaceAll('-', '.')));
    }
    t.equal(seen.size, 2, 'those two take turns');
  }
  for (let i = 10; i < 60; i++) put(`10.0.1.${i}`, 'unknown');
  const cut = services('sandbox');
  t.equal(cut.isCut, true);
  t.match(cut.targets[0], '0 c-10-0-0-1', 'what does not fit is what is far');
  t.equal(services('sandbox', 'tcp').targets.length, 56);
});

test('the order follows the round trips, and nothing is disturbed while no step changes', async (t) => {
  const ms: Record<string, number> = {};
  const { put, names, clock, nearness, answers, ask } = scene(ms);
  put('10.0.0.1', 'a');
  put('10.0.0.2', 'b');
  t.same(answers(), ['10.0.0.1 10.0.0.2', '10.0.0.2 10.0.0.1'], 'of neither anything is known');
  const stop = nearness.follow();
  Object.assign(ms, { a: 45, b: 1 });
  await clock.advance(5_000);
  t.same(answers(), ['10.0.0.2 10.0.0.1']);
  const { version } = names;
  Object.assign(ms, { a: 60, b: 0.2 });
  await clock.advance(60_000);
  t.equal(names.version, version);
  Object.assign(ms, { a: 1, b: 40 });
  t.equal(ask(), '10.0.0.2 10.0.0.1');
  await clock.advance(5_000);
  t.same(answers(), ['10.0.0.1 10.0.0.2']);
  delete ms['a'];
  await clock.advance(5_000);
  t.same(answers(), ['10.0.0.2 10.0.0.1'], 'who is gone is the farthest');
  stop();
  ms['a'] = 1;
  await clock.advance(60_000);
  t.same(answers(), ['10.0.0.2 10.0.0.1']);
});
