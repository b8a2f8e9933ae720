/**
 *     router
 *     /    \
 *   h1      h2          no Docker, etcd on h1
 *
 * What weftd says of an encrypted network where its kernel has no WireGuard. What one is where it has: drivers/overlay/encrypted-network.test.ts.
 */
import tap, { test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import { hostNetns } from '../linux/netns.ts';
import { openWireguard } from '../linux/wireguard.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const KEYS = '/var/lib/weft/identity/wireguard.json';

const wireguard = openWireguard(hostNetns);
wireguard?.close();

const status = (host: Host): Promise<StatusAnswer> => weftJson<StatusAnswer>(host, 'status');

test('hosts whose kernel has no WireGuard', { skip: wireguard ? 'this one has it' : false }, async (t) => {
  const lab = await createLab({ name: 'encrypted', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const { url } = await startEtcd(h1);
  for (const host of [h1, h2]) await weftUp(host, { store: url });
  t.match((await weft(h1, 'network', 'create', '-o', 'encrypted', 'secret')).stderr, /WEFT-ENCRYPTION: network secret is encrypted, and this host cannot encrypt: its kernel has no WireGuard; load it/);
  t.equal((await weftJson<object[]>(h1, 'network', 'ls')).length, 0);

  // As if another host, which has it, had made the network.
  await weftJson(h1, 'network', 'create', 'secret');
  await changeNetwork(h1, url, (network) => ({ ...network, options: { encrypted: '' } }));
  for (const host of [h1, h2]) {
    await until(`${host.name} says that it cannot`, async () => (await status(host)).problems.some((problem) => problem.startsWith('WEFT-ENCRYPTION: network secret')), 10_000);
    t.same((await status(host)).cleartext, []);
    t.match((await weft(host, 'sandbox', 'add', 's', '--network', 'secret')).stderr, 'WEFT-ENCRYPTION');
    t.equal((await host.exec(['test', '-e', KEYS])).code, 1, 'and it has made no keys');
  }
});

/** The only one, in the store. */
async function changeNetwork(host: Host, url: string, change: (network: Record<string, unknown>) => object): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const ask = async (call: string, body: object): Promise<{ kvs?: { key: string; value: string }[] }> =>
    JSON.parse(await host.must(['curl', '-sf', `${url}/v3/kv/${call}`, '-d', JSON.stringify(body)])) as { kvs?: { key: string; value: string }[] };
  const [entry] = (await ask('range', { key: base64('/weft/v1/networks/'), range_end: base64('/weft/v1/networks0') })).kvs!;
  const network = JSON.parse(Buffer.from(entry!.value, 'base64').toString()) as Record<string, unknown>;
  await ask('put', { key: entry!.key, value: base64(JSON.stringify(change(network))) });
}
