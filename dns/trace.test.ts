import packet from 'dns-packet';
import { test } from 'tap';
import { parsePrefix } from '../base/prefix.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAnswerCache } from './answer-cache.ts';
import { createCachingForwarder } from './caching.ts';
import type { NameTrace } from './dns.ts';
import type { DockerResolver } from './docker-resolver.ts';
import type { Failure, Forwarder } from './forwarder.ts';
import type { Source } from './forwarding.ts';
import { createLatencies, timed } from './latency.ts';
import { createOwnRecords } from './own-records.ts';
import { answerTexts, parseType, typeText } from './record-text.ts';
import { hasAddressIn } from './reply.ts';
import { A, question, react, type Reactions } from './testing.ts';
import { traceName } from './trace.ts';
import { createNameTable } from './zone.ts';

interface SceneOptions { docker?: Reactions | Failure; upstream?: Reactions | Failure; internal?: boolean; elsewhere?: boolean }

/** A sandbox on network 'web' with a container c1 (10.1.0.5); each question to Docker's resolver takes 7 ms, to a name server 20 ms. */
function scene({ docker = () => ({ rcode: 3 }), upstream = () => ({ rcode: 3 }), internal = false, elsewhere = false }: SceneOptions = {}) {
  const clock = new VirtualClock();
  const cache = createAnswerCache(1 << 20);
  const subnets = [parsePrefix('10.1.0.0/24')!];
  const source = (scope: string, does: Reactions | Failure, ms: number): Source<DockerResolver> => {
    const direct: DockerResolver = {
      ask: (message) => new Promise((resolve) => clock.setTimeout(() => resolve(typeof does === 'string' ? does : react(message, does) ?? 'timeout'), ms)),
      isAbsent: () => false,
      close: () => {},
    };
    return { direct, cached: createCachingForwarder({ cache, scope, forwarder: direct, clock, discards: (reply, end) => scope === 'docker' && hasAddressIn(reply, end, subnets) }) };
  };
  const names = createNameTable();
  const records = createOwnRecords();
  names.put({ networkId: 'n1', networkName: 'web', endpointId: 'e1', ip: '10.1.0.5', name: 'c1', names: ['c1'], service: 'c1' });
  const upstreams = { ...source('upstreams', upstream, 20), encrypted: false };
  const options = {
    names, records, networks: () => ({ joined: [{ id: 'n1', name: 'web', suffix: 'web' }], subnets, passing: [], internal, ipv4: true, elsewhere }),
    docker: source('docker', docker, 7), upstreams: () => upstreams, ttl: 5, random: seededRandom(1), clock,
  };
  const trace = async (name: string, type = 'A'): Promise<NameTrace> => {
    const [traced] = await Promise.all([traceName(options, name, type), clock.advance(5_000)]);
    return traced;
  };
  return { records, trace };
}

/** What each source said, in their order. */
const details = ({ steps }: NameTrace): string[] => steps.map(({ detail }) => detail);
const NOBODY_ELSE = 'not asked: what the cluster knows is nobody else\'s';

test('what the cluster knows', async (t) => {
  const { records, trace } = scene();
  const container = await trace('c1');
  t.match(container, { name: 'c1', type: 'A', rcode: 'NOERROR', from: 'containers', answers: ['c1 5 A 10.1.0.5'] });
  t.same(container.steps.map(({ source }) => source), ['records', 'containers', 'cache', 'docker', 'upstreams']);
  t.same(details(container), ['none of this name, for all networks or for web', 'the answer', NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE]);
  t.match(details(await trace('c1', 'AAAA'))[1], /has no AAAA records: that is the answer/);
  records.put({ name: 'c1', sets: { TXT: { values: ['a "note"'] } } });
  t.match(await trace('c1'), { from: 'containers', steps: [{ detail: 'they have the name, but not for A' }, { detail: 'the answer' }] });
  const text = await trace('C1', 'txt');
  t.match(text, { from: 'records', answers: [String.raw`c1 5 TXT "a \"note\""`], steps: [{ detail: 'the answer' }, { detail: 'not asked: records of your own come first' }] });
});

test('others: Docker\'s resolver, then the cache; how long it took', async (t) => {
  const { trace, records } = scene({ docker: (name) => (name === 'www.example' ? [A(name, '198.51.100.7')] : { rcode: 3 }) });
  const first = await trace('www.example');
  t.match(first, { from: 'docker', ms: 7, answers: ['www.example 60 A 198.51.100.7'] });
  t.same(first.steps.slice(2), [
    { source: 'cache', ms: 0, detail: 'nothing is kept of it' },
    { source: 'docker', ms: 7, detail: 'the answer: NOERROR' },
    { source: 'upstreams', detail: 'not asked: Docker\'s resolver asks the container\'s name servers' },
  ]);
  const second = await trace('www.example');
  t.match(second, { from: 'cache', ms: 0, answers: [/^www\.example 5\d A 198\.51\.100\.7$/] });
  t.same(details(second).slice(2), ['the answer: it was asked for before', 'not asked: it was in the cache', 'not asked: it was in the cache']);
  t.match(await trace('nobody.example'), { rcode: 'NXDOMAIN', from: 'docker', answers: [] });
  records.put({ name: 'alias.test', sets: { CNAME: { values: ['www.example'] } } });
  t.match(await trace('alias.test'), { from: 'cache', answers: ['alias.test 5 CNAME www.example', /^www\.example 4\d A 198\.51\.100\.7$/], steps: [{ detail: 'an alias, which leads to the outside' }] });
});

test('why there is no answer', async (t) => {
  t.match(await scene({ docker: 'absent', upstream: 'timeout' }).trace('www.example'), { rcode: 'SERVFAIL', steps: [{}, {}, {}, { detail: 'nobody listens for Docker in the container' }, { detail: 'no answer in time', ms: 20 }] });
  t.match(await scene({ docker: 'absent', upstream: 'absent' }).trace('www.example'), { steps: [{}, {}, {}, {}, { detail: 'this host has none' }] });
  t.match(await scene({ docker: 'absent', upstream: () => [A('www.example', '198.51.100.7')] }).trace('www.example'), { from: 'upstreams', ms: 27 });
  t.match(await scene({ docker: (name) => [A(name, '10.1.0.9')] }).trace('early'), { rcode: 'NXDOMAIN', steps: [{}, {}, {}, { detail: /counts only from the cluster itself/ }] });
  t.match(await scene({ internal: true }).trace('www.example'), { rcode: 'SERVFAIL', steps: [{}, {}, ...Array.from({ length: 3 }, () => ({ detail: /all networks of the container are internal/ }))] });
  t.match(await scene({ elsewhere: true }).trace('www.example'), { rcode: 'NXDOMAIN', from: 'docker', steps: [{}, {}, { detail: /networks of Docker's own/ }] });
  t.match(await scene().trace('example', 'AXFR'), { rcode: 'REFUSED' });
});

test('bad questions are refused', async (t) => {
  const { trace } = scene();
  for (const [name, type] of [['', 'A'], ['a..b', 'A'], [`${'x'.repeat(64)}.test`, 'A'], ['c1', 'NONE'], ['c1', 'TYPE65536']] as const) await t.rejects(trace(name, type), { code: 'WEFT-RECORD-MALFORMED' });
});

test('records as text', async (t) => {
  const query = question('x.test');
  const reply = packet.encode({
    type: 'response', id: 1, questions: [{ name: 'x.test', type: 'A' }], answers: [
      { type: 'A', name: 'x.test', ttl: 1, data: '10.0.0.1' }, { type: 'AAAA', name: 'x.test', ttl: 2, data: 'fd00::1' }, { type: 'MX', name: 'x.test', data: { preference: 10, exchange: 'mail.test' } },
      { type: 'SRV', name: 'x.test', data: { priority: 1, weight: 2, port: 3, target: 'y.test' } }, { type: 'TXT', name: 'x.test', data: ['a', 'b'] }, { type: 'CAA', name: 'x.test', data: { flags: 0, tag: 'issue', value: 'z' } },
    ],
  });
  t.same(answerTexts(reply, query.length), ['x.test 1 A 10.0.0.1', 'x.test 2 AAAA fd00::1', 'x.test 0 MX 10 mail.test', 'x.test 0 SRV 1 2 3 y.test', 'x.test 0 TXT "ab"', String.raw`x.test 0 CAA \# 8 000569737375657a`]);
  t.same(answerTexts(reply.subarray(0, reply.length - 3), query.length), []);
  const many = packet.encode({ type: 'response', questions: [{ name: 'x.test', type: 'A' }], answers: Array.from({ length: 103 }, (_, i) => A('x.test', `10.0.0.${i}`)) });
  const texts = answerTexts(many, query.length);
  t.same([texts.length, texts[99]?.split(' ').at(-1), texts[100]], [101, '10.0.0.99', 'and 3 more']);
  t.same([parseType('aaaa'), parseType('TYPE65'), typeText(65), typeText(999)], [28, 65, 'HTTPS', 'TYPE999']);
});

test('answers and silence of others are timed, and not that nobody is there', async (t) => {
  const { add, histograms } = createLatencies();
  const clock = new VirtualClock();
  const says: (Buffer | Failure)[] = [question('x'), 'timeout', 'absent', 'closed', 'busy'];
  const silent: Forwarder = { ask: () => new Promise((resolve) => clock.setTimeout(() => resolve(says.shift()!), 40)), close: () => {} };
  const forwarder = timed(silent, 'upstreams', { add }, clock);
  for (let left = says.length; left > 0; left--) await Promise.all([forwarder.ask(question('x'), 0, 'udp'), clock.advance(40)]);
  t.match(histograms().upstreams, { count: 2, sum: 80 });
});

test('latencies fall into buckets that hold those before', async (t) => {
  const { add, histograms } = createLatencies();
  for (const ms of [0.05, 0.06, 3, 10_000]) add('docker', ms);
  const { docker, cache } = histograms();
  t.same([docker.count, docker.sum, cache.count], [4, 10_003.11, 0]);
  t.same(docker.buckets.filter(({ le }) => [0.05, 0.1, 2.5, 5, 2500].includes(le)).map(({ count }) => count), [1, 2, 2, 3, 3]);
});
