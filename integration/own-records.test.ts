/**
 *     router
 *     /    \
 *   h1      h2          Docker on both, a cluster of their own
 *
 * Records of the operator's own, in containers of both hosts; names by labels.
 */
import tap, { test, type Test } from 'tap';
import type { DnsRecordAnswer } from '../agent/api.ts';
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
  await formCluster(lab);
  const [h1, h2] = [lab.host(1), lab.host(2)];
  for (const network of ['web', 'back']) {
    await weftJson(h1, 'network', 'create', network);
    for (const host of [h1, h2]) await until(`Docker of ${host.name} has ${network}`, async () => (await host.tryDocker('network', 'inspect', network)).code === 0);
  }
  await run(h1, 'probe1', '--network', 'web');
  await run(h2, 'probe2', '--network', 'back');
  await run(h2, 'shop', '--network', 'web', '--label', 'weft.dns.names=shop.test,*.shop.test,no name');
  const [one, two] = [await inside(t, h1, 'probe1'), await inside(t, h2, 'probe2')];
  const shop = await addressOf(h2, 'shop');
  await until('names are there', async () => await get(one, 'shop.test') === shop);

  await t.test('labels', async (t) => {
    t.equal(await get(one, 'www.SHOP.test'), shop);
    t.equal(await get(one, 'a.b.shop.test'), shop);
    t.not(await get(two, 'shop.test'), shop, 'on another network it has no such name');
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
