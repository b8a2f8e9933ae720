/**
 *   h1      no Docker, no etcd
 *   c1      network namespace on the network web
 *
 * Names of containers for programs of their host: off, on, over a restart of weftd, and off again.
 */
import tap, { test } from 'tap';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson } from './lab/weft.ts';

tap.setTimeout(240_000);

const CONFIG = '/etc/weft/weft.json';

/** What Node's own resolver, c-ares, is told. */
async function ask(host: Host, name: string): Promise<string> {
  const { stdout } = await host.exec([process.execPath, '-e', `
    const resolver = new (require('node:dns').promises.Resolver)({ timeout: 1000, tries: 1 });
    resolver.setServers(['127.0.0.87']);
    resolver.resolve4('${name}').then((ips) => console.log(ips.join(' ')), ({ code }) => console.log(code));
  `]);
  return stdout.trim();
}

const configure = (host: Host, dns: object): Promise<string> =>
  host.must([process.execPath, '-e', `const fs = require('node:fs'); fs.writeFileSync('${CONFIG}', JSON.stringify({ ...JSON.parse(fs.readFileSync('${CONFIG}', 'utf8')), dns: ${JSON.stringify(dns)} }))`]);

test('names of containers from their host', async (t) => {
  const lab = await createLab({ name: 'hostnames', hosts: 1 });
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
  for (let starts = 0; starts < 2; starts++) {
    await restart({ host: true });
    await until('it is answered', async () => await ask(h1, 'c1.web.weft') === address.split('/')[0], 10_000);
  }
  t.equal(await ask(h1, 'c2.web.weft'), 'ENOTFOUND');
  t.equal(await ask(h1, 'example.org'), 'EREFUSED', 'it is no resolver for anything else');
  await restart({});
  t.equal(await ask(h1, 'c1.web.weft'), 'ECONNREFUSED');
});
