import { test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { createHostNames } from './host-names.ts';
import { decode, outcome, question } from './testing.ts';
import { createNameTable } from './zone.ts';

const out = Buffer.alloc(65_535);

function scene() {
  const names = createNameTable();
  const counts: Record<string, number> = {};
  const networks = [{ id: 'n1', name: 'Web' }, { id: 'n2', name: 'api.web' }, { id: 'n3', name: '' }];
  const respond = createHostNames({ names, networks: () => networks, ttl: 5, random: seededRandom(1), count: (each) => void (counts[each] = (counts[each] ?? 0) + 1) });
  const ask = (query: Buffer, transport: 'udp' | 'tcp' = 'udp'): Buffer => Buffer.from(out.subarray(0, respond(query, transport, out) as number));
  const get = (name: string, type?: string): string => outcome(ask(question(name, type)));
  names.put({ networkId: 'n1', networkName: 'Web', endpointId: 'e1', ip: '10.1.0.5', ip6: 'fd20::5', name: 'c1', names: ['db'], service: 'c1', ports: ['tcp/80'] });
  names.put({ networkId: 'n2', networkName: 'api.web', endpointId: 'e2', ip: '10.2.0.5', name: 'c2', names: [], service: 'c2' });
  return { get, ask, respond, names, counts };
}

test('names of all networks, under the domain', async (t) => {
  const { get, ask } = scene();
  t.equal(get('c1.web.weft'), '10.1.0.5');
  t.equal(get('DB.WEB.Weft'), '10.1.0.5');
  t.equal(get('c1.web.weft', 'AAAA'), 'fd20::5');
  t.equal(get('c2.api.web.weft'), '10.2.0.5', 'a network with a dot in its name');
  t.equal(get('5.0.1.10.in-addr.arpa', 'PTR'), 'c1.Web.weft');
  const { answers, additionals } = decode(ask(question('_80._tcp.c1.web.weft', 'SRV')));
  t.match(answers, [{ data: { port: 80, target: 'c1.Web.weft' } }]);
  t.same(additionals!.map((each) => (each as { data: string }).data), ['10.1.0.5', 'fd20::5']);
  t.equal(decode(ask(question('c1.web.weft'))).answers![0]!.type === 'A' && (decode(ask(question('c1.web.weft'))).answers![0] as { ttl: number }).ttl, 5);
});

test('what does not exist, and what is nobody\'s business here', async (t) => {
  const { get, respond, ask, counts } = scene();
  for (const name of ['weft', 'web.weft', 'api.web.weft']) t.equal(get(name), '', `${name} has others below it`);
  t.equal(get('c1.web.weft', 'TXT'), '');
  t.equal(get('c2.api.web.weft', 'AAAA'), '');
  t.equal(get('_81._tcp.c1.web.weft', 'SRV'), '', 'nobody listens there');
  for (const name of ['c9.web.weft', 'c1.other.weft', 'c1.weft', 'c2.web.weft']) t.equal(get(name), 'NXDOMAIN', name);
  for (const name of ['c1', 'c1.web', 'example.org', 'xweft', 'c1.web.weft.org']) t.equal(get(name), 'REFUSED', name);
  t.equal(get('9.9.9.10.in-addr.arpa', 'PTR'), 'REFUSED');
  t.equal(outcome(ask(question('c1.web.weft', 'A', { questions: [{ name: 'c1.web.weft', type: 'A', class: 'CH' }] }))), 'REFUSED');
  t.equal(respond(Buffer.alloc(3), 'udp', out), 0);
  t.equal(outcome(ask(question('c1.web.weft', 'A', { questions: [] }))), 'FORMERR');
  t.match(counts, { nodata: 6, ignored: 1, rejected: 1 });
});

test('more answers than the client takes', async (t) => {
  const { names, ask } = scene();
  for (let i = 1; i < 100; i++) names.put({ networkId: 'n1', networkName: 'Web', endpointId: `many${i}`, ip: `10.1.1.${i}`, name: `many${i}`, names: ['many'], service: 'many' });
  const cut = ask(question('many.web.weft'));
  t.ok(cut.length <= 512);
  t.equal(decode(cut).flag_tc, true);
  t.equal(decode(ask(question('many.web.weft'), 'tcp')).answers!.length, 99);
});
