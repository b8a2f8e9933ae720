/**
 *     router
 *     /    \
 *   h1      h2          no Docker
 *   s1      s2          sandboxes, where the kernel has WireGuard
 *
 * What weftd says of an encrypted network where its kernel has no WireGuard; and where it has (in a virtual machine, vm.test.ts), what it takes from keys
 * on the disk to packets. What an encrypted network is in the kernel: drivers/overlay/encrypted-network.test.ts.
 */
import tap, { test } from 'tap';
import type { NetworkAnswer, SandboxAnswer, StatusAnswer } from '../agent/api.ts';
import { hostNetns, openNetns } from '../linux/netns.ts';
import { openWireguard } from '../linux/wireguard.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until, wait } from './lab/run.ts';
import { control, spawnWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(480_000);

const KEYS = '/var/lib/weft/identity/wireguard.json';

const wireguard = openWireguard(hostNetns);
wireguard?.close();

/** In a virtual machine beside other work everything may take minutes, asking included. */
const patiently = <T>(what: string, ask: () => Promise<T>) => until(what, ask, 180_000, 500);

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

test('hosts whose kernel has WireGuard', { skip: wireguard ? false : 'this one has not' }, async (t) => {
  const lab = await createLab({ name: 'encrypted', hosts: 2 });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const { url } = await startEtcd(h1);
  await Promise.all([h1, h2].map((host) => begin(host, url)));
  await patiently('h2 knows the network', async () => {
    await control(h1, 'POST', 'networks', { name: 'secret', driver: 'overlay', options: { encrypted: '' } }).catch(() => {});
    return (await control<NetworkAnswer[]>(h2, 'GET', 'networks')).length === 1;
  });
  const [s1, s2] = [await sandboxOn(h1, 's1'), await sandboxOn(h2, 's2')];
  const ping = (...more: string[]) => h1.exec(['nsenter', `--net=${s1.netns}`, 'busybox', 'ping', ...more, s2.address!.split('/')[0]!]);
  const reach = (): Promise<unknown> => patiently('they reach each other', async () => (await ping('-c', '1', '-W', '1')).code === 0);

  await t.test('what crosses between them is sealed, with the keys on their disks', async (t) => {
    await reach();
    const capture = await h1.capture('eth0', 'ip');
    const { code } = await ping('-c', '5', '-i', '0.05');
    const packets = await capture.stop();
    t.equal(code, 0);
    t.ok((packets.match(/ 10\.99\.[12]\.[12]\.7952 > 10\.99\.[12]\.[12]\.7952: UDP/g) ?? []).length >= 10, 'each question and each answer');
    // In the clear there is only weft-in, by which the nodes try what size of packets gets through; no IP is in that.
    t.notMatch(packets, /ICMP|vni (?!8388608\b)|vni 8388608\s+IP/);
    t.equal(await h1.must(['stat', '-c', '%a', KEYS]), '600\n');
    t.equal(await keyOn(h1), keyKnownTo(h2));
    t.equal(await keyOn(h2), keyKnownTo(h1));
    for (const host of [h1, h2]) t.same((await control<StatusAnswer>(host, 'GET', 'status')).problems, []);
  });

  await t.test('new keys for all while packets cross', async (t) => {
    const before = [await keyOn(h1), await keyOn(h2)];
    const asking = ping('-i', '0.05');
    await patiently('the keys are being changed', () => control<object>(h2, 'POST', 'key'));
    for (const [i, [host, other]] of [[h1, h2] as const, [h2, h1] as const].entries()) {
      await patiently(`${other.name} has the new key of ${host.name}`, async () => {
        const key = await keyOn(host);
        return key !== before[i] && key === keyKnownTo(other);
      });
    }
    await wait(2_000);
    await h1.must(['pkill', '-INT', '-x', 'busybox']);
    const { stdout } = await asking;
    const sent = Number(/(\d+) packets transmitted/.exec(stdout)?.[1]);
    const numbers = [...stdout.matchAll(/bytes from .*seq=(\d+)/g)].map(([, number]) => Number(number));
    const longest = Math.max(...[...numbers, sent].map((number, i) => number - (numbers[i - 1] ?? -1) - 1));
    t.ok(longest < 100, `${longest} of ${sent} packets are lost in a row, of 20 a second: a handshake that fails would be tried again after 5 s`);
  });
});

/** As `weft up` does, with one process instead of three: each takes seconds in a virtual machine. */
async function begin(host: Host, url: string): Promise<void> {
  const config = { advertise: host.address, name: host.name, etcd: { endpoints: [url] } };
  await host.must(['sh', '-c', 'mkdir -p /etc/weft && cat > /etc/weft/weft.json'], { input: JSON.stringify(config) });
  spawnWeftd(host);
  await patiently(`weftd of ${host.name} answers`, () => control<object>(host, 'GET', 'status'));
}

const sandboxOn = (host: Host, name: string): Promise<SandboxAnswer> => patiently(`a sandbox on ${host.name}`, () => control<SandboxAnswer>(host, 'POST', 'sandboxes', { name, network: 'secret' }));

/** A host's own public key. */
const keyOn = async (host: Host): Promise<string> => (JSON.parse(await host.must(['cat', KEYS])) as { publicKey: string }).publicKey;

/** That of the only other host, in the kernel of this one. */
function keyKnownTo(host: Host): string | undefined {
  const fabric = openNetns(`/proc/${host.pid}/root/run/netns/weft`);
  const link = openWireguard(fabric)!;
  try {
    return link.get('weft-wg').peers[0]?.publicKey;
  } finally {
    link.close();
    fabric.close();
  }
}

/** The only one, in the store. */
async function changeNetwork(host: Host, url: string, change: (network: Record<string, unknown>) => object): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const ask = async (call: string, body: object): Promise<{ kvs?: { key: string; value: string }[] }> =>
    JSON.parse(await host.must(['curl', '-sf', `${url}/v3/kv/${call}`, '-d', JSON.stringify(body)])) as { kvs?: { key: string; value: string }[] };
  const [entry] = (await ask('range', { key: base64('/weft/v1/networks/'), range_end: base64('/weft/v1/networks0') })).kvs!;
  const network = JSON.parse(Buffer.from(entry!.value, 'base64').toString()) as Record<string, unknown>;
  await ask('put', { key: entry!.key, value: base64(JSON.stringify(change(network))) });
}
