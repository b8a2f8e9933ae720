import { test } from 'tap';
import { parsePrefix } from '../base/prefix.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAnswerCache } from './answer-cache.ts';
import { createCachingForwarder, type CachingOptions } from './caching.ts';
import { createChain } from './chain.ts';
import type { SeenQuery } from './dns.ts';
import type { DockerResolver } from './docker-resolver.ts';
import type { Failure } from './forwarder.ts';
import type { SandboxNetworks, Source } from './forwarding.ts';
import { createOwnRecords } from './own-records.ts';
import { createMemory } from './remembered.ts';
import { hasAddressIn } from './reply.ts';
import { A, decode, outcome, question, react, type Reactions } from './testing.ts';
import { createNameTable } from './zone.ts';

const out = Buffer.alloc(65_535);

/** A chain over one network 'web' (10.1.0.0/24), and forwarders that do as told. */
interface SceneOptions { docker: Reactions | Failure; upstream?: Reactions | Failure; internal?: boolean; ipv4?: boolean; elsewhere?: boolean | 'unknown'; observed?: boolean }
function scene({ docker, upstream = 'absent', internal = false, ipv4 = true, elsewhere = false, observed = false }: SceneOptions) {
  const clock = new VirtualClock();
  const cache = createAnswerCache(1 << 20);
  const names = createNameTable();
  const counts: Record<string, number> = {};
  const asked: string[] = [];
  const networks: SandboxNetworks = { joined: [{ id: 'n1', name: 'web', suffix: 'web' }], subnets: [parsePrefix('10.1.0.0/24')!], passing: [], internal, ipv4, elsewhere: elsewhere === 'unknown' ? undefined : elsewhere };
  const says: Record<string, Reactions | Failure> = { docker, upstream };
  const source = (who: string, discards?: CachingOptions['discards']): Source<DockerResolver> => {
    const direct: DockerResolver = {
      ask: (message, _, transport) => {
        asked.push(`${who}/${transport}`);
        const does = says[who]!;
        if (typeof does === 'string') return Promise.resolve(does);
        // 'x' stands for whatever was asked for.
        const named: Reactions = (name, type) => {
          const reaction = does(name, type);
          return Array.isArray(reaction) ? reaction.map((each) => ({ ...each, name: each.name === 'x' ? name : each.name })) : reaction;
        };
        return Promise.resolve(react(message, named) ?? 'timeout');
      },
      isAbsent: () => false,
      close: () => {},
    };
    return { direct, cached: createCachingForwarder({ cache, scope: who, forwarder: direct, clock, ...(discards && { discards }) }) };
  };
  const upstreams = { ...source('upstream'), encrypted: false };
  const records = createOwnRecords();
  const seen: SeenQuery[] = [];
  const timed: string[] = [];
  const chain = createChain({
    names, records, networks: () => networks, docker: source('docker', (reply, end) => hasAddressIn(reply, end, networks.subnets)), upstreams: () => upstreams, ttl: 5, remembered: createMemory({ now: () => 0, random: seededRandom(1) })(), random: seededRandom(1),
    count: (each) => void (counts[each] = (counts[each] ?? 0) + 1),
    observation: { clock, took: (from) => void timed.push(from), observer: () => (observed ? (query) => void seen.push(query) : undefined) },
  });
  const ask = async (query: Buffer, transport: 'udp' | 'tcp' = 'udp'): Promise<Buffer> => {
    const answer = chain(query, transport, out);
    return typeof answer === 'number' ? Buffer.from(out.subarray(0, answer)) : await answer;
  };
  const put = (name: string, ...ips: string[]): void =>
    ips.forEach((ip) => names.put({ networkId: 'n1', networkName: 'web', endpointId: ip, ip, name, names: [name], service: name }));
  return { chain, names, records, ask, put, counts, asked, clock, says, seen, timed, get: async (name: string, type?: string) => outcome(await ask(question(name, type))) };
}

test('own records are answered at once, and nobody else is asked', async (t) => {
  const { get, ask, put, asked, counts } = scene({ docker: () => [A('x', '9.9.9.9')] });
  put('c1', '10.1.0.5');
  t.equal(await get('c1'), '10.1.0.5');
  t.equal(await get('C1.WEB'), '10.1.0.5');
  t.equal(await get('5.0.1.10.in-addr.arpa', 'PTR'), 'c1.web');
  for (const type of ['AAAA', 'MX', 'TXT', 'SRV', 'PTR']) t.equal(await get('c1', type), '', `${type} of a known name: no such records, but the name exists`);
  t.match(decode(await ask(question('c1', 'AAAA'))), { rcode: 'NOERROR', answers: [] });
  t.equal(outcome(await ask(question('c1'), 'tcp')), '10.1.0.5');
  t.same(asked, []);
  t.same(counts, { answered: 4, nodata: 6 });
});

test('SRV: who listens on a port, with their addresses', async (t) => {
  const { ask, get, names, asked } = scene({ docker: () => [A('x', '9.9.9.9')] });
  for (const i of [1, 2]) names.put({ networkId: 'n1', networkName: 'web', endpointId: `e${i}`, ip: `10.1.0.${i}`, ip6: `fd20::${i}`, name: `api${i}`, names: ['api'], service: 'api', ports: ['tcp/8080'] });
  const { answers, additionals } = decode(await ask(question('_8080._tcp.api', 'SRV')));
  t.same(answers!.map((each) => each.type === 'SRV' && each.data).toSorted((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b))),
    [1, 2].map((i) => ({ priority: 0, weight: 0, port: 8080, target: `api${i}.web` })));
  t.same(additionals!.map((each) => `${each.name} ${(each as { data: string }).data}`).toSorted(), ['api1.web 10.1.0.1', 'api1.web fd20::1', 'api2.web 10.1.0.2', 'api2.web fd20::2']);
  t.equal(await get('_81._tcp.api', 'SRV'), '', 'nobody listens there');
  t.same(asked, []);
  t.equal(await get('_8080._tcp.outside', 'SRV'), '9.9.9.9');
  for (let i = 3; i < 40; i++) names.put({ networkId: 'n1', networkName: 'web', endpointId: `e${i}`, ip: `10.1.0.${i}`, name: `api${i}`, names: ['api'], service: 'api', ports: ['tcp/8080'] });
  const cut = await ask(question('_8080._tcp.api', 'SRV'));
  t.ok(cut.length <= 512);
  t.equal(decode(cut).flag_tc, true);
  const whole = decode(await ask(question('_8080._tcp.api', 'SRV'), 'tcp'));
  t.same([whole.flag_tc, whole.answers!.length, whole.additionals!.length], [false, 39, 41]);
});

test('AAAA and ANY', async (t) => {
  const { ask, get, names, asked } = scene({ docker: () => [A('x', '9.9.9.9')] });
  names.put({ networkId: 'n1', networkName: 'web', endpointId: 'e1', ip: '10.1.0.5', ip6: 'fd20::5', name: 'dual', names: [], service: 'dual' });
  names.put({ networkId: 'n1', networkName: 'web', endpointId: 'e2', ip: 'fd20::6', name: 'six', names: [], service: 'six' });
  t.equal(await get('dual'), '10.1.0.5');
  t.equal(await get('dual', 'AAAA'), 'fd20::5');
  t.same((await get('dual', 'ANY')).split(' ').sort(), ['10.1.0.5', 'fd20::5']);
  t.equal(await get('six.web', 'AAAA'), 'fd20::6');
  t.match(decode(await ask(question('six', 'A'))), { rcode: 'NOERROR', answers: [] });
  t.equal(await get(`6.0.0.0.${'0.'.repeat(20)}0.0.0.0.0.2.d.f.ip6.arpa`, 'PTR'), 'six.web');
  t.same(asked, []);
});

test('a sandbox without IPv4: Docker cannot ask for it, so the host asks at the same time', async (t) => {
  const six = (docker: Reactions | Failure, upstream: Reactions | Failure) => scene({ docker, upstream, ipv4: false });
  const outside: Reactions = () => [A('x', '93.184.216.34')];
  t.equal(await six('timeout', outside).get('outside'), '93.184.216.34');
  t.equal(await six(() => ({ rcode: 2 }), outside).get('outside'), '93.184.216.34', 'after Docker has failed');
  t.equal(await six(() => [A('x', '172.18.0.5')], outside).get('bridged'), '172.18.0.5', 'what Docker knows itself comes first');
  t.equal(await six(() => ({ rcode: 3 }), 'timeout').get('nobody'), 'NXDOMAIN');
  t.equal(await six('absent', () => ({ rcode: 3 })).get('nobody'), 'NXDOMAIN');
  const internal = scene({ docker: 'absent', upstream: outside, ipv4: false, internal: true });
  t.equal(await internal.get('outside'), 'SERVFAIL');
  t.same(internal.asked, []);
});

test('several addresses take turns at being first', async (t) => {
  const { get, put } = scene({ docker: 'absent' });
  const ips = ['10.1.0.1', '10.1.0.2', '10.1.0.3'];
  put('many', ...ips);
  const firsts: Record<string, number> = {};
  for (let i = 0; i < 300; i++) {
    const answer = (await get('many')).split(' ');
    t.same([...answer].sort(), ips);
    firsts[answer[0]!] = (firsts[answer[0]!] ?? 0) + 1;
  }
  for (const ip of ips) t.ok(firsts[ip]! > 60, `${ip} was first ${firsts[ip]} times of 300`);
});

test('over UDP an answer keeps to the client\'s size, over TCP it is whole', async (t) => {
  const { ask, put } = scene({ docker: 'absent' });
  put('many', ...Array.from({ length: 200 }, (_, i) => `10.1.0.${i + 1}`));
  const plain = await ask(question('many'));
  t.ok(plain.length <= 512);
  t.equal(decode(plain).flag_tc, true);
  const edns = await ask(question('many', 'A', { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [] }] } as object));
  t.ok(edns.length > 512 && edns.length <= 1232);
  const whole = decode(await ask(question('many'), 'tcp'));
  t.match(whole, { flag_tc: false });
  t.equal(whole.answers!.length, 200);
});

test('the rest is Docker\'s, but what it says about Weft subnets does not count', async (t) => {
  const { get, ask, put, counts, asked } = scene({
    docker: (name) => ({
      early: [A('early', '10.1.0.77')], outside: [A('outside', '93.184.216.34')], bridged: [A('bridged', '172.18.0.5')],
      mixed: [A('mixed', '172.18.0.6'), A('mixed', '10.1.0.6')], silent: 'silence',
    } as Record<string, ReturnType<Reactions>>)[name] ?? { rcode: 3 },
  });
  t.equal(await get('early'), 'NXDOMAIN', 'announced before its link works');
  t.equal(await get('mixed'), 'NXDOMAIN');
  put('early', '10.1.0.77');
  t.equal(await get('early'), '10.1.0.77', 'once we know it');
  t.equal(await get('outside'), '93.184.216.34');
  t.equal(await get('bridged'), '172.18.0.5', 'only Docker knows');
  t.equal(await get('nobody'), 'NXDOMAIN');
  t.equal(await get('silent'), 'SERVFAIL');
  t.equal(outcome(await ask(question('outside'), 'tcp')), '93.184.216.34');
  t.notOk(asked.some((each) => each.startsWith('upstream')), 'silence is not absence');
  t.same(counts, { discarded: 2, answered: 1, docker: 3, cached: 1, timeout: 1 });
});

test('without Docker\'s resolver the host\'s name servers are asked, unless the sandbox is internal', async (t) => {
  const open = scene({ docker: 'absent', upstream: () => [A('x', '93.184.216.34')] });
  t.equal(await open.get('outside'), '93.184.216.34');
  const internal = scene({ docker: 'absent', upstream: () => [A('x', '93.184.216.34')], internal: true });
  t.equal(await internal.get('outside'), 'SERVFAIL');
  t.same(internal.asked, [], 'nothing left');
  const alone = scene({ docker: 'absent' });
  t.equal(await alone.get('outside'), 'SERVFAIL');
  const crowded = scene({ docker: 'absent', upstream: 'busy' });
  t.equal(await crowded.get('outside'), 'REFUSED');
  t.same([open.counts, internal.counts, alone.counts, crowded.counts], [{ upstream: 1 }, { contained: 1 }, { unreachable: 1 }, { refused: 1 }]);
});

test('what is asked again comes from the cache, at once; nothing is kept where Docker may know any name', async (t) => {
  const outside: Reactions = () => [A('x', '93.184.216.34')];
  const { get, chain, asked, counts, clock, says } = scene({ docker: outside });
  t.equal(await get('outside.example'), '93.184.216.34');
  t.equal(typeof chain(question('OUTSIDE.example'), 'udp', out), 'number', 'without waiting');
  t.same(asked, ['docker/udp']);
  await clock.advance(60_000);
  says['docker'] = 'timeout';
  t.equal(await get('outside.example'), '93.184.216.34', 'past its time, while nobody answers');
  t.equal(await get('outside.example'), '93.184.216.34');
  t.same(counts, { docker: 1, cached: 1, stale: 2 });
  const subnet = { type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [{ code: 8, data: Buffer.from([0, 1, 24, 0, 1, 2, 3]) }] };
  const direct = scene({ docker: outside });
  for (let i = 0; i < 2; i++) await direct.ask(question('outside.example', 'A', { additionals: [subnet] } as object));
  t.equal(direct.asked.length, 2, 'options that change the answer');
  const elsewhere = scene({ docker: outside, elsewhere: true });
  for (const transport of ['udp', 'tcp'] as const) t.equal(outcome(await elsewhere.ask(question('outside.example'), transport)), '93.184.216.34');
  t.same(elsewhere.asked, ['docker/udp', 'docker/tcp']);
  const internal = scene({ docker: outside, elsewhere: true, internal: true });
  t.equal(await internal.get('bridged'), '93.184.216.34', 'an internal network and one of Docker\'s');
  const unknown = scene({ docker: outside, elsewhere: 'unknown', internal: true });
  t.equal(await unknown.get('outside.example'), 'SERVFAIL', 'where nobody knows nothing leaves');
  t.same(unknown.asked, []);
  const open = scene({ docker: outside, elsewhere: 'unknown' });
  for (let i = 0; i < 2; i++) t.equal(await open.get('outside.example'), '93.184.216.34');
  t.equal(open.asked.length, 2, 'and nothing is kept');
});

test('what came before in the same bytes is answered as it was, until something changes', async (t) => {
  const { chain, put, names, counts } = scene({ docker: () => [A('x', '93.184.216.34')] });
  put('c1', '10.1.0.5');
  const again = (name: string): string => {
    const query = question(name);
    const length = chain.known().write(query, query.length, out);
    return length === 0 ? 'unknown' : `${out.readUInt16BE(0) === query.readUInt16BE(0) ? '' : 'another id: '}${outcome(out.subarray(0, length))}`;
  };
  t.equal(again('c1'), 'unknown');
  chain(question('c1'), 'udp', out);
  chain(question('c1', 'AAAA'), 'udp', out);
  t.equal(again('c1'), '10.1.0.5');
  put('c2', '10.1.0.6');
  t.equal(again('c1'), 'unknown', 'names have changed');
  chain(question('c1'), 'udp', out);
  t.equal(again('c1'), '10.1.0.5');
  names.remove('n1', '10.1.0.5');
  t.equal(again('c1'), 'unknown', 'nothing is given for longer than it is there');
  chain(question('c2'), 'tcp', out);
  t.equal(again('c2'), 'unknown', 'over TCP answers may be longer');

  await chain(question('outside.example'), 'udp', out);
  t.equal(again('outside.example'), 'unknown', 'it was not given at once');
  chain(question('outside.example'), 'udp', out);
  t.equal(again('outside.example'), '93.184.216.34');
  t.same(counts, { answered: 5, nodata: 1, docker: 1, cached: 2 });
});

test('asking that goes wrong here is one client\'s failure, and does not last', async (t) => {
  const { get, counts, says, clock, chain } = scene({ docker: () => { throw new Error('no descriptors'); } });
  t.equal(await get('outside.example'), 'SERVFAIL');
  says['docker'] = () => [A('x', '93.184.216.34')];
  t.equal(await get('outside.example'), '93.184.216.34');
  t.equal(await get('outside.example'), '93.184.216.34');
  says['docker'] = () => { throw new Error('no descriptors'); };
  await clock.advance(59_000);
  t.equal(typeof chain(question('outside.example'), 'udp', out), 'number', 'asked for ahead of time');
  await clock.advance(1_000);
  t.equal(await get('outside.example'), 'SERVFAIL');
  t.same(counts, { failed: 2, docker: 1, cached: 2 });
});

test('while dockerd is away the host\'s name servers are asked before what is past its time is given', async (t) => {
  const { get, counts, says, clock } = scene({ docker: () => [A('x', '1.1.1.1')], upstream: () => [A('x', '2.2.2.2')] });
  t.equal(await get('www.example'), '1.1.1.1');
  t.equal(await get('once.example'), '1.1.1.1');
  await clock.advance(60_000);
  says['docker'] = 'absent';
  t.equal(await get('www.example'), '2.2.2.2');
  await clock.advance(60_000);
  for (const failure of ['absent', 'timeout', () => ({ rcode: 2 })] as const) {
    says['upstream'] = failure;
    t.equal(await get('www.example'), '2.2.2.2', 'nobody knows any more: what was known last');
    t.equal(await get('once.example'), '1.1.1.1');
  }
  t.equal(await get('other.example'), 'SERVFAIL');
  t.same(counts, { docker: 2, upstream: 2, stale: 6 });
});

test('who had an answer is told by name', async (t) => {
  const { get, put, records, seen, timed, says, clock, counts } = scene({
    docker: (name) => (name === 'early' ? [A('x', '10.1.0.77')] : name === 'nobody.example' ? { rcode: 3 } : [A('x', '93.184.216.34')]), upstream: () => [A('x', '198.51.100.7')], observed: true,
  });
  const told = (): string[] => seen.splice(0).map(({ name, from, rcode }) => `${name} ${from ?? 'nobody'} ${rcode}`);
  put('c1', '10.1.0.5');
  records.put({ name: 'own.test', sets: { A: { values: ['10.9.0.1'] } } });
  for (const [alias, target] of [['kept.test', 'www.example'], ['new.test', 'other.example']] as const) records.put({ name: alias, sets: { CNAME: { values: [target] } } });
  for (const name of ['c1', 'own.test', 'www.example', 'www.example', 'nobody.example', 'early', 'kept.test', 'new.test']) await get(name);
  t.same(told(), ['c1 containers 0', 'own.test records 0', 'www.example docker 0', 'www.example cache 0', 'nobody.example docker 3', 'early nobody 3', 'kept.test cache 0', 'new.test docker 0']);
  await Promise.all([get('slow.example'), get('c1')]);
  t.same(told(), ['c1 containers 0', 'slow.example docker 0'], 'each question by itself');
  says['docker'] = 'absent';
  await get('www2.example');
  await get('www2.example');
  t.same(told(), ['www2.example upstreams 0', 'www2.example cache 0']);
  says['upstream'] = 'timeout';
  await get('www3.example');
  await clock.advance(60_000);
  await get('www2.example');
  t.same(told(), ['www3.example nobody 2', 'www2.example cache 0'], 'what is past its time is from the cache, too');
  t.same(timed, ['containers', 'records', 'cache', 'containers'], 'what others were asked for is timed where they are');
  t.match(counts, { docker: 4, upstream: 1, discarded: 1, stale: 1 });
  const direct = scene({ docker: () => [A('x', '172.18.0.5')], elsewhere: true, observed: true });
  await direct.get('bridged');
  await direct.ask(question('bridged'), 'tcp');
  t.same(direct.seen.map(({ from, transport }) => `${from ?? 'nobody'} over ${transport}`), ['docker over udp', 'docker over tcp'], 'where nothing is kept');
});

test('replies that cannot be believed are failures', async (t) => {
  const { get, counts } = scene({ docker: () => [A('bank.example', '6.6.6.6')] });
  t.equal(await get('outside.example'), 'SERVFAIL');
  t.same(counts, { lied: 1 });
});

test('one sandbox has no more than 256 questions with the host\'s name servers', async (t) => {
  const waiting: ((reply: Failure) => void)[] = [];
  const direct: DockerResolver = { ask: () => new Promise((resolve) => waiting.push(resolve)), isAbsent: () => false, close: () => {} };
  const absent: DockerResolver = { ask: () => Promise.resolve('absent'), isAbsent: () => true, close: () => {} };
  const cached = (forwarder: DockerResolver) => createCachingForwarder({ cache: createAnswerCache(1 << 20), scope: '', forwarder, clock: new VirtualClock() });
  const upstreams = { direct, cached: cached(direct), encrypted: false };
  const counts: Record<string, number> = {};
  const limited = createChain({
    names: createNameTable(), records: createOwnRecords(), networks: () => ({ joined: [], subnets: [], passing: [], internal: false, ipv4: true, elsewhere: false }), ttl: 5, remembered: createMemory({ now: () => 0, random: seededRandom(1) })(), random: seededRandom(1),
    docker: { direct: absent, cached: cached(absent) }, upstreams: () => upstreams, count: (each) => void (counts[each] = (counts[each] ?? 0) + 1),
  });
  const pending = Array.from({ length: 300 }, (_, i) => limited(question(`x${i}`), 'udp', out) as Promise<Buffer>);
  await Promise.all(pending.slice(256));
  t.same(counts, { refused: 44 });
  for (const resolve of waiting) resolve('timeout');
  await Promise.all(pending);
  t.same(counts, { refused: 44, timeout: 256 });
});

test('rejections, and what is not answered at all', async (t) => {
  const { ask, chain, counts, asked } = scene({ docker: 'absent' });
  const update = question('a');
  update.writeUInt16BE(0x2800, 2);
  t.equal(outcome(await ask(update)), 'NOTIMP');
  const two = question('a');
  two.writeUInt16BE(2, 4);
  t.equal(outcome(await ask(two)), 'FORMERR');
  t.equal(chain(Buffer.alloc(5), 'udp', out), 0);
  const reply = question('a');
  reply.writeUInt16BE(0x8100, 2);
  t.equal(chain(reply, 'udp', out), 0, 'a response');
  const chaos = question('version.bind', 'TXT');
  chaos.writeUInt16BE(3, chaos.length - 2);
  t.equal(outcome(await ask(chaos)), 'REFUSED', 'another class');
  for (const type of ['AXFR', 'IXFR']) t.equal(outcome(await ask(question('web', type), 'tcp')), 'REFUSED', type);
  t.same(asked, []);
  t.same(counts, { rejected: 2, ignored: 2, denied: 3 });
});

test('more than 1024 questions under way are refused; own names still answer', async (t) => {
  const names = createNameTable();
  names.put({ networkId: 'n1', networkName: 'web', endpointId: 'e', ip: '10.1.0.1', name: 'c1', names: [], service: 'c1' });
  const waiting: ((reply: Failure) => void)[] = [];
  const direct: DockerResolver = { ask: () => new Promise((resolve) => waiting.push(resolve)), isAbsent: () => false, close: () => {} };
  const docker = { direct, cached: createCachingForwarder({ cache: createAnswerCache(1 << 20), scope: '', forwarder: direct, clock: new VirtualClock() }) };
  const chain = createChain({
    names, records: createOwnRecords(), networks: () => ({ joined: [{ id: 'n1', name: 'web', suffix: 'web' }], subnets: [], passing: [], internal: false, ipv4: true, elsewhere: false }), docker, upstreams: () => ({ ...docker, encrypted: false }), ttl: 5, remembered: createMemory({ now: () => 0, random: seededRandom(1) })(), random: seededRandom(1), count: () => {},
  });
  const pending = Array.from({ length: 1024 }, (_, i) => chain(question(`x${i}`), 'udp', out) as Promise<Buffer>);
  t.equal(outcome(await (chain(question('x'), 'udp', out) as Promise<Buffer>)), 'REFUSED');
  t.equal(outcome(out.subarray(0, chain(question('c1'), 'udp', out) as number)), '10.1.0.1');
  for (const resolve of waiting) resolve('timeout');
  t.same(new Set((await Promise.all(pending)).map(outcome)), new Set(['SERVFAIL']));
  const next = chain(question('x'), 'udp', out);
  t.ok(next instanceof Promise);
  waiting.at(-1)!('timeout');
  t.equal(outcome(await (next as Promise<Buffer>)), 'SERVFAIL', 'room again');
});
