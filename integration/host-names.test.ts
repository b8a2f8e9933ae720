/**
 *   h1      Docker, no etcd
 *   c1      network namespace on the networks web (overlay) and lan (bridge), c2 on lan alone
 *   probe   container on web whose --dns is h1
 *
 * Names of containers for programs of their host: off, on, over a restart of weftd, and off again. Names for who asks the host itself, while
 * namespaces are left alone.
 */
import tap, { test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson } from './lab/weft.ts';

tap.setTimeout(240_000);

const CONFIG = '/etc/weft/weft.json';

/** What Node's own resolver, c-ares, is told: on the host, or in a namespace there. */
async function ask(host: Host, name: string, { at = '127.0.0.87', from = [] as string[] } = {}): Promise<string> {
  const { stdout } = await host.exec([...from, process.execPath, '-e', `
    const resolver = new (require('node:dns').promises.Resolver)({ timeout: 1000, tries: 1 });
    resolver.setServers(['${at}']);
    resolver.resolve4('${name}').then((ips) => console.log(ips.join(' ')), ({ code }) => console.log(code));
  `]);
  return stdout.trim();
}

const configure = (host: Host, dns: object): Promise<string> =>
  host.must([process.execPath, '-e', `const fs = require('node:fs'); fs.writeFileSync('${CONFIG}', JSON.stringify({ ...JSON.parse(fs.readFileSync('${CONFIG}', 'utf8')), dns: ${JSON.stringify(dns)} }))`]);

test('names of containers from their host', async (t) => {
  const lab = await createLab({ name: 'hostnames', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const h1 = lab.host(1);
  t.equal((await weft(h1, 'up', '--no-start', '--name', 'h1')).code, 0);
  const service = await startWeftd(h1);
  await ready(h1);
  await weftJson(h1, 'network', 'create', 'web');
  const { address } = await weftJson<{ address: string }>(h1, 'sandbox', 'add', 'c1', '--network', 'web');
  t.equal(await ask(h1, 'c1.web.weft'), 'ECONNREFUSED', 'off, as long as nobody has switched it on');
  const restart = async (dns: object): Promise<void> => {
    await configure(h1, dns);
    await service.stop();
    await service.start();
    await ready(h1);
  };
  const [c1] = address.split('/');
  t.match((await weft(h1, 'dns', 'host')).stdout, /^programs of this host are not answered$/m);
  t.match((await weft(h1, 'dns', 'host', 'on')).stdout, /ask for NAME\.NETWORK\.weft at 127\.0\.0\.87: point a resolver of this host there$/m);
  t.equal(await ask(h1, 'c1.web.weft'), c1, 'at once');
  await service.stop();
  await service.start();
  await ready(h1);
  await until('it is answered after a restart, too', async () => await ask(h1, 'c1.web.weft') === c1, 10_000);
  t.equal(await ask(h1, 'c2.web.weft'), 'ENOTFOUND');
  t.equal(await ask(h1, 'example.org'), 'EREFUSED', 'it is no resolver for anything else');
  t.same(await weftJson(h1, 'dns', 'host', 'on', '--address', '127.0.0.99'), { address: '127.0.0.99', resolved: false });
  t.equal(await ask(h1, 'c1.web.weft', { at: '127.0.0.99' }), c1);
  t.equal(await ask(h1, 'c1.web.weft'), 'ECONNREFUSED');
  t.match((await weft(h1, 'dns', 'host', 'on', '--address', '192.0.2.1')).stderr, /WEFT-DNS-ADDRESS.*192\.0\.2\.1.*weft dns host on --address/);
  t.match((await weft(h1, 'dns', 'host', 'on', '--address', 'lo')).stderr, 'WEFT-INPUT-MALFORMED');
  t.match((await weft(h1, 'dns', 'host', 'maybe')).stderr, 'WEFT-CALL-UNKNOWN');
  t.match(JSON.parse(await h1.must(['cat', CONFIG])), { dns: { host: '127.0.0.99' } }, 'what was refused is not written');
  t.same(await weftJson(h1, 'dns', 'host', 'off'), { resolved: false });
  t.equal(await ask(h1, 'c1.web.weft', { at: '127.0.0.99' }), 'ECONNREFUSED');
  t.notOk('dns' in (JSON.parse(await h1.must(['cat', CONFIG])) as object));

  await t.test('who asks the host itself', async (t) => {
    const { node } = await weftJson<StatusAnswer>(h1, 'status');
    const at = `10.255.0.${node.number}`;
    await weftJson(h1, 'network', 'create', '-d', 'bridge', 'lan');
    await weftJson(h1, 'sandbox', 'add', 'c1', '--network', 'lan');
    await weftJson(h1, 'sandbox', 'add', 'c2', '--network', 'lan');
    const inside = (name: string): string[] => ['ip', 'netns', 'exec', name];
    t.equal(await ask(h1, 'c1.web', { at: '127.0.0.11', from: inside('c1') }), c1, 'hooked up, as it is by default');
    await restart({ listen: true });
    await until('it answers', async () => await ask(h1, 'c1.web', { at, from: inside('c1') }) === c1, 10_000);
    t.equal(await ask(h1, 'c1.web', { at: '127.0.0.11', from: inside('c1') }), 'ECONNREFUSED', 'nobody is in the namespace');
    t.equal(await h1.must([...inside('c1'), 'nft', 'list', 'tables']), '');
    await weftJson(h1, 'sandbox', 'add', 'c3', '--network', 'web');
    t.match(await h1.must([...inside('c3'), 'cat', '/etc/resolv.conf']), `nameserver ${at}\n`);
    t.match(await ask(h1, 'c1.lan', { at, from: inside('c2') }), /^\d/, 'on a bridge');
    t.not(await ask(h1, 'c1.web', { at, from: inside('c2') }), c1, 'not of a network that it is not on');
    t.equal(await ask(h1, 'c1.web', { at }), 'EREFUSED', 'the host is on none');
    await until('Docker has the network', async () => (await h1.tryDocker('network', 'inspect', 'web')).code === 0);
    await h1.docker('run', '-d', '--stop-signal', 'KILL', '--name', 'probe', '--network', 'web', '--dns', at, IMAGE, 'sleep', '100000');
    t.match(await h1.docker('exec', 'probe', 'nslookup', 'c1.web'), c1, 'what Docker does not know it asks here');
  });
});
