import { test } from 'tap';
import { parsePrefix } from '../base/prefix.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAnswerCache } from './answer-cache.ts';
import { createCachingForwarder } from './caching.ts';
import { createChain } from './chain.ts';
import type { DockerResolver } from './docker-resolver.ts';
import type { Source } from './forwarding.ts';
import { createOwnRecords, type OwnName } from './own-records.ts';
import { createMemory } from './remembered.ts';
import { A, decode, outcome, question, react, type Reactions } from './testing.ts';
import { createNameTable } from './zone.ts';

const out = Buffer.alloc(65_535);

/** A sandbox on one network 'web', with a container c1 (10.1.0.5) there, and a Docker that forwards to the outside. */
function scene(outside: Reactions = () => ({ rcode: 3 }), { elsewhere = false, internal = false } = {}) {
  const clock = new VirtualClock();
  const asked: string[] = [];
  const direct: DockerResolver = {
    ask: (message) => {
      asked.push(decode(message).questions![0]!.name);
      return Promise.resolve(react(message, outside) ?? 'timeout');
    },
    isAbsent: () => false,
    close: () => {},
  };
  const source: Source<DockerResolver> = { direct, cached: createCachingForwarder({ cache: createAnswerCache(1 << 20), scope: 'docker', forwarder: direct, clock }) };
  const names = createNameTable();
  const records = createOwnRecords();
  names.put({ networkId: 'n1', networkName: 'web', endpointId: 'e1', ip: '10.1.0.5', name: 'c1', names: ['c1', '*.label.test'], service: 'c1', ports: ['tcp/80'] });
  const counts: Record<string, number> = {};
  const chain = createChain({
    names, records, networks: () => ({ joined: [{ id: 'n1', name: 'web', suffix: 'web' }], subnets: [parsePrefix('10.1.0.0/24')!], passing: [], internal, ipv4: true, elsewhere }),
    docker: source, upstreams: () => ({ ...source, encrypted: false }), ttl: 5, remembered: createMemory({ now: clock.now, random: seededRandom(1) })(), random: seededRandom(1), count: (each) => void (counts[each] = (counts[each] ?? 0) + 1),
  });
  const ask = async (name: string, type?: string, extra = {}): Promise<Buffer> => {
    const message = question(name, type, extra);
    const again = chain.known().write(message, message.length, out);
    const answer = again > 0 ? again : chain(message, 'udp', out);
    return typeof answer === 'number' ? Buffer.from(out.subarray(0, answer)) : answer;
  };
  const put = (name: string, sets: OwnName['sets'], networkId?: string): void => records.put({ name, sets, ...(networkId !== undefined && { networkId }) });
  return { put, records, names, ask, asked, counts, get: async (name: string, type?: string) => outcome(await ask(name, type)) };
}

/** 'name TYPE data' of each answer. */
const answers = (reply: Buffer): string[] => decode(reply).answers!.map((each) => `${each.name} ${each.type} ${JSON.stringify((each as { data: unknown }).data)}`);

test('each type, as DNS has it', async (t) => {
  const { put, ask, get, asked } = scene();
  put('db.test', { A: { values: ['10.9.0.1', '10.9.0.2'], ttl: 77 }, AAAA: { values: ['fd09::1'] }, TXT: { values: ['hello', 'x'.repeat(300)] } });
  put('_sip._udp.test', { SRV: { values: ['1 2 5060 sip.test'] } });
  t.same((await get('DB.test')).split(' ').sort(), ['10.9.0.1', '10.9.0.2']);
  t.equal(await get('db.test', 'AAAA'), 'fd09::1');
  t.same(decode(await ask('db.test')).answers!.map((each) => (each as { ttl: number }).ttl), [77, 77]);
  t.same(decode(await ask('db.test', 'AAAA')).answers!.map((each) => (each as { ttl: number }).ttl), [5], 'the resolver\'s where the record has none');
  t.same(decode(await ask('db.test', 'TXT')).answers!.map((each) => Buffer.concat((each as { data: Buffer[] }).data).toString()).sort(), ['hello', 'x'.repeat(300)]);
  t.same(answers(await ask('_sip._udp.test', 'SRV')), ['_sip._udp.test SRV {"priority":1,"weight":2,"port":5060,"target":"sip.test"}']);
  t.equal(decode(await ask('db.test', 'ANY', { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [] }] })).answers!.length, 5);
  t.equal(await get('db.test', 'MX'), '', 'the name is there, such records are not');
  t.equal(await get('1.0.9.10.in-addr.arpa', 'PTR'), 'db.test');
  t.equal(await get('nobody.test'), 'NXDOMAIN');
  t.same(asked, ['nobody.test']);
});

test('they stand before containers\' names, and only where they say something', async (t) => {
  const { put, get } = scene();
  put('c1', { TXT: { values: ['note'] } });
  t.equal(await get('c1'), '10.1.0.5', 'a text of the operator\'s takes nothing away');
  t.equal(await get('c1', 'AAAA'), '');
  put('c1', { A: { values: ['10.9.0.1'] } });
  t.equal(await get('c1'), '10.9.0.1');
  t.equal(await get('c1.web'), '10.1.0.5');
  t.equal(await get('5.0.1.10.in-addr.arpa', 'PTR'), 'c1.web', 'an address of a container is the container\'s');
  put('c1', { A: { values: ['10.9.0.3'] } }, 'n1');
  t.equal(await get('c1'), '10.9.0.3', 'the network\'s own first');
});

test('wildcards: of records, and of labels', async (t) => {
  const { put, get, records } = scene();
  put('*.web', { A: { values: ['10.9.0.1'] } });
  t.equal(await get('c1.web'), '10.1.0.5', 'what a container has is not covered');
  t.equal(await get('other.web'), '10.9.0.1');
  t.equal(await get('other.web', 'AAAA'), '');
  t.equal(await get('x.label.test'), '10.1.0.5');
  t.equal(await get('x.y.label.test.web'), '10.1.0.5');
  t.equal(await get('label.test'), 'NXDOMAIN');
  put('x.label.test', { A: { values: ['10.9.0.2'] } });
  t.equal(await get('x.label.test'), '10.9.0.2');
  records.remove(undefined, 'x.label.test');
  t.equal(await get('x.label.test'), '10.1.0.5', 'answers in remembered bytes go with the record');
});

test('aliases: to a container, to another record, in a circle', async (t) => {
  const { put, ask, get, asked } = scene();
  put('site.test', { CNAME: { values: ['www.test'], ttl: 30 } });
  put('www.test', { CNAME: { values: ['c1'] } });
  t.same(answers(await ask('site.test')), ['site.test CNAME "www.test"', 'www.test CNAME "c1"', 'c1 A "10.1.0.5"']);
  t.same(answers(await ask('site.test', 'CNAME')), ['site.test CNAME "www.test"']);
  t.same(answers(await ask('site.test', 'AAAA')), ['site.test CNAME "www.test"', 'www.test CNAME "c1"'], 'no such records at the end of it');
  put('a.test', { CNAME: { values: ['b.test'] } });
  put('b.test', { CNAME: { values: ['a.test'] } });
  const circle = decode(await ask('a.test'));
  t.same([circle.rcode, circle.answers!.length], ['NOERROR', 8]);
  put('_80._tcp.site.test', { CNAME: { values: ['_80._tcp.c1'] } });
  t.same(answers(await ask('_80._tcp.site.test', 'SRV')), ['_80._tcp.site.test CNAME "_80._tcp.c1"', '_80._tcp.c1 SRV {"priority":0,"weight":0,"port":80,"target":"c1.web"}']);
  t.equal(await get('*.test'), 'NXDOMAIN', 'nothing is there');
  t.same(asked, ['*.test']);
});

test('an alias to the outside: asked there, from the cache from then on', async (t) => {
  for (const elsewhere of [false, true]) {
    const { put, ask, asked, counts } = scene((name) => (name === 'cdn.example' ? [{ type: 'CNAME', name, data: 'edge.cdn.example', ttl: 60 }, A('edge.cdn.example', '198.51.100.7')] : { rcode: 3 }), { elsewhere });
    put('cdn.test', { CNAME: { values: ['cdn.example'] } });
    const wanted = ['cdn.test CNAME "cdn.example"', 'cdn.example CNAME "edge.cdn.example"', 'edge.cdn.example A "198.51.100.7"'];
    t.same(answers(await ask('CDN.test')).map((each) => each.replace('CDN', 'cdn')), wanted);
    t.same(answers(await ask('cdn.test', 'A', { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, flags: 0, options: [] }] })), wanted);
    t.same(asked, elsewhere ? ['cdn.example', 'cdn.example'] : ['cdn.example']);
    t.same(counts, elsewhere ? { docker: 2 } : { docker: 1, cached: 1 });
    put('gone.test', { CNAME: { values: ['gone.example'] } });
    const gone = decode(await ask('gone.test'));
    t.same([gone.rcode, gone.answers!.length], ['NXDOMAIN', 1]);
  }
  const inside = scene(() => [A('x', '198.51.100.7')], { internal: true });
  inside.put('cdn.test', { CNAME: { values: ['cdn.example'] } });
  inside.put('here.test', { CNAME: { values: ['c1'] } });
  t.equal(await inside.get('cdn.test'), 'SERVFAIL', 'nothing leaves an internal network');
  t.equal(await inside.get('here.test'), 'c1 10.1.0.5');
  t.same(inside.asked, []);
});

test('what does not fit over UDP is cut, and says so', async (t) => {
  const { put, ask } = scene();
  put('long.test', { TXT: { values: Array.from({ length: 8 }, (_, i) => `${i}${'y'.repeat(200)}`) } });
  const cut = await ask('long.test', 'TXT');
  t.ok(cut.length <= 512);
  t.equal(decode(cut).flag_tc, true);
});
