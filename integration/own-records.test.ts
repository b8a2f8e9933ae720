/**
 *     router
 *     /    \
 *   h1      h2          Docker on both, a cluster of their own
 *
 * Records of the operator's own, in containers of both hosts; names by labels; who is nearest; who answers a name, and why; the log of queries.
 */
import { readFileSync } from 'node:fs';
import tap, { test, type Test } from 'tap';
import type { DnsRecordAnswer, StatusAnswer } from '../agent/api.ts';
import type { NameTrace } from '../dns/dns.ts';
import { askTcp, askUdp, decode, outcome, question } from '../dns/testing.ts';
import { openNetns } from '../linux/netns.ts';
import type { Netns } from '../linux/types.ts';
import { formCluster } from './lab/cluster.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { weft, weftJson } from './lab/weft.ts';

tap.setTimeout(240_000);

const run = (host: Host, name: string, ...args: string[]): Promise<string> =>
  host.docker('run', '-d', '--stop-signal', 'KILL', '--name', name, ...args, IMAGE, 'sleep', '100000');
const get = async (netns: Netns, name: string, type?: string): Promise<string> => outcome(await askUdp(netns, question(name, type))).split(' ').sort().join(' ');
const addressOf = (host: Host, container: string): Promise<string> => host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', container);

async function inside(t: Test, host: Host, container: string): Promise<Netns> {
  const netns = openNetns(await host.containerNetns(container));
  t.teardown(() => netns.close());
  return netns;
}

test('records of the operator\'s own', async (t) => {
  const lab = await createLab({ name: 'records', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  await h1.must(['sh', '-c', `mkdir -p /etc/weft && echo '{ "dns": { "order": "nearest" } }' > /etc/weft/weft.json`]);
  const services = await formCluster(lab);
  for (const network of ['web', 'back']) {
    await weftJson(h1, 'network', 'create', network);
    for (const host of [h1, h2]) await until(`Docker of ${host.name} has ${network}`, async () => (await host.tryDocker('network', 'inspect', network)).code === 0);
  }
  await run(h1, 'probe1', '--network', 'web', '--network-alias', 'both');
  await run(h2, 'probe2', '--network', 'back');
  await run(h2, 'shop', '--network', 'web', '--network-alias', 'both', '--label', 'weft.dns.names=shop.test,*.shop.test,no name', '--label', 'weft.dns.txt.shop.test=open', '--label', 'weft.dns.cname.market.test=shop');
  const [one, two] = [await inside(t, h1, 'probe1'), await inside(t, h2, 'probe2')];
  const shop = await addressOf(h2, 'shop');
  await until('names are there', async () => await get(one, 'shop.test') === shop);

  await t.test('labels', async (t) => {
    t.equal(await get(one, 'www.SHOP.test'), shop);
    t.equal(await get(one, 'a.b.shop.test'), shop);
    t.equal(await get(one, 'shop.test', 'TXT'), 'open');
    t.equal(await get(one, 'market.test'), `${shop} shop`);
    t.not(await get(two, 'shop.test'), shop, 'on another network it has no such name');
  });

  await t.test('the one of this host first', async (t) => {
    const here = await addressOf(h1, 'probe1');
    await until('both are there', async () => (await get(one, 'both')).split(' ').length === 2);
    for (let i = 0; i < 20; i++) t.equal(outcome(await askUdp(one, question('both'))), `${here} ${shop}`);
  });

  await t.test('on both hosts, of a network or of all', async (t) => {
    await weftJson(h1, 'dns', 'add', 'DB.test', 'A', '192.0.2.1');
    await weftJson(h2, 'dns', 'add', 'db.test', 'a', '192.0.2.2', '--ttl', '77');
    await weftJson(h1, 'dns', 'add', '--network', 'back', 'db.test', 'A', '192.0.2.9');
    await weftJson(h1, 'dns', 'add', '*.app.test', 'CNAME', 'shop');
    await weftJson(h1, 'dns', 'add', 'note.test', 'TXT', 'kept', 'by', 'us');
    await weftJson(h1, 'dns', 'add', 'shop', 'AAAA', 'fd09::1');
    await until('h2 has them all', async () => await get(two, 'db.test') === '192.0.2.9' && await get(two, 'note.test', 'TXT') === 'by kept us' && (await weftJson<DnsRecordAnswer[]>(h2, 'dns', 'ls')).length === 6);
    await until('h1, too', async () => await get(one, 'db.test') === '192.0.2.1 192.0.2.2');
    t.same(decode(await askUdp(one, question('db.test'))).answers!.map((each) => (each as { ttl: number }).ttl), [77, 77]);
    t.equal(await get(one, 'x.app.test'), `${shop} shop`, 'an alias of a container on the other host');
    t.equal(outcome(await askTcp(one, question('x.app.test'))), `shop ${shop}`);
    t.equal(await get(one, 'shop', 'AAAA'), 'fd09::1');
    t.equal(await get(one, 'shop'), shop, 'the address of the container stays');
    t.equal(await get(one, '2.2.0.192.in-addr.arpa', 'PTR'), 'db.test');
    t.match(await h1.docker('exec', 'probe1', 'nslookup', 'x.app.test'), shop, 'a client of the image takes it');
    t.match((await weft(h2, 'dns', 'ls')).stdout, /^db\.test +A +192\.0\.2\.9 +- +back$/m);
  });

  await t.test('what is wrong is said', async (t) => {
    t.match((await weft(h1, 'dns', 'add', 'db.test', 'A', 'fd00::1')).stderr, /WEFT-RECORD-MALFORMED.*use the type AAAA/);
    t.match((await weft(h1, 'dns', 'add', 'db.test', 'MX', 'mail.test')).stderr, /WEFT-RECORD-MALFORMED.*A, AAAA, CNAME, SRV, TXT/);
    t.match((await weft(h1, 'dns', 'add', 'db.test', 'CNAME', 'x.test')).stderr, /WEFT-RECORD-ALONE.*weft dns rm db\.test/);
    t.match((await weft(h1, 'dns', 'add', 'db.test', 'A', '192.0.2.1', '--ttl', 'soon')).stderr, /WEFT-RECORD-MALFORMED.*write it as 60/);
    t.match((await weft(h1, 'dns', 'add', '--network', 'nowhere', 'db.test', 'A', '192.0.2.1')).stderr, 'WEFT-NETWORK-UNKNOWN');
    t.match((await weft(h1, 'dns', 'rm', 'nobody.test')).stderr, 'WEFT-RECORD-UNKNOWN');
  });

  await t.test('who answers, and why', async (t) => {
    t.match(await weftJson<NameTrace>(h1, 'dns', 'lookup', 'db.test', '--from', 'probe1'), { rcode: 'NOERROR', from: 'records', answers: [/^db\.test 77 A 192\.0\.2\.\d$/, /./] });
    const text = (await weft(h1, 'dns', 'lookup', 'shop', '--from', 'probe1')).stdout;
    t.match(text, new RegExp(String.raw`^shop A: NOERROR, from names of containers, in [\d.]+ ms\n {2}shop 5 A ${shop}\n`));
    t.match(text, /^records of your own +[\d.]+ ms +they have the name, but not for A$/m);
    t.match(text, /^Docker's resolver +- +not asked: what the cluster knows is nobody else's$/m);
    t.match(await weftJson<NameTrace>(h1, 'dns', 'lookup', 'nobody.test', '--from', 'probe1'), { steps: [{ detail: /^none of this name, for all networks or for web$/ }, {}, {}, { source: 'docker', ms: Number }] });
    t.match((await weft(h1, 'dns', 'lookup', 'shop', '--from', 'probe2')).stderr, 'WEFT-CONTAINER-UNKNOWN', 'it is on the other host');
    t.match((await weft(h1, 'dns', 'lookup', 'shop', 'NONE', '--from', 'probe1')).stderr, 'WEFT-RECORD-MALFORMED');
    const { dnsLatency } = await weftJson<StatusAnswer>(h1, 'status');
    t.ok(dnsLatency['records']!.count > 0 && dnsLatency['docker']!.count > 0, JSON.stringify(dnsLatency));
  });

  await t.test('the log of queries', async (t) => {
    const logged = (): string[] => readFileSync(services.get(h1)!.log, 'utf8').split('\n').filter((line) => line.includes('"msg":"query"'));
    await get(one, 'db.test');
    t.same(logged(), []);
    t.match((await weft(h1, 'dns', 'log', 'on', '--from', 'probe1')).stdout, 'queries of probe1 are logged');
    for (let i = 0; i < 2; i++) await get(one, 'db.test');
    await until('both are there', () => logged().length === 2);
    t.match(JSON.parse(logged()[0]!), { part: 'dns', container: 'probe1', name: 'db.test', type: 'A', transport: 'udp', from: 'records', rcode: 'NOERROR' });
    t.match((await weft(h1, 'dns', 'log', 'off')).stdout, 'no queries are logged');
    await get(one, 'db.test');
    t.equal(logged().length, 2);
    t.match((await weft(h1, 'dns', 'log', 'maybe')).stderr, 'WEFT-CALL-UNKNOWN');
  });

  await t.test('removed ones are gone', async (t) => {
    t.match((await weft(h2, 'dns', 'rm', 'db.test', 'A', '192.0.2.1')).stdout, 'db.test A 192.0.2.1');
    await until('h1 has one left', async () => await get(one, 'db.test') === '192.0.2.2');
    await weftJson(h1, 'dns', 'rm', '*.app.test');
    t.notMatch(await get(one, 'x.app.test'), shop);
    await h2.docker('rm', '-f', 'probe2');
    await weftJson(h1, 'network', 'rm', 'back');
    await until('those of a network that is removed', async () => !(await weftJson<DnsRecordAnswer[]>(h2, 'dns', 'ls')).some(({ value }) => value === '192.0.2.9'));
  });
});
