/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker; the cluster's own store on h1
 *
 * h3 belongs to nobody: it reaches every port of the nodes, and has neither a certificate nor a key. It says to each port what
 * that port understands, and what it does not; then the control plane is as it was before.
 */
import { resolve } from 'node:path';
import tap, { test } from 'tap';
import { createLab } from './lab/lab.ts';
import type { Host } from './lab/host.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const script = (name: string): string[] => [process.execPath, resolve(import.meta.dirname, 'lab', name)];
const everything = JSON.stringify({ key: 'AA==', range_end: 'AA==' });
/** Type byte of memberlist's error message, which says only that the other side has a key. */
const ERROR = 13;
/** What is reached over TCP at each port, by calls that its protocol has. */
const CALLS: Record<string, readonly (readonly string[])[]> = {
  7947: [['/v1/join'], ['/v1/join', '-d', '{}'], ['/v1/status'], ['/']],
  7948: [
    ['/v3/kv/range', '-d', everything], ['/v3/kv/put', '-d', JSON.stringify({ key: 'eA==', value: 'eA==' })], ['/v3/kv/deleterange', '-d', everything], ['/v3/watch', '-d', JSON.stringify({ create_request: { key: 'AA==', range_end: 'AA==' } })],
    ['/v3/cluster/member/list', '-d', '{}'], ['/v3/maintenance/snapshot', '-d', '{}'], ['/health'], ['/version'], ['/metrics'], ['/v2/keys/?recursive=true'], ['/debug/vars'],
  ],
  7949: [['/members'], ['/raft'], ['/raft/snapshot', '-d', 'x'], ['/version'], ['/raft/probing'], ['/leases', '-d', 'x'], ['/members/promote/1', '-d', 'x']],
};

test('an outsider on the underlay reads and changes nothing of the control plane', async (t) => {
  const lab = await createLab({ name: 'outsider', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  await weftUp(h1);
  const { token } = await until('a token', () => weftJson<{ token: string }>(h1, 'token'), 40_000);
  t.equal((await weft(h2, 'join', token, '--no-start', '--name', 'h2')).code, 0);
  await startWeftd(h2);
  await ready(h2);
  const { vni } = await weftJson<{ vni: number }>(h1, 'network', 'create', 'web');
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  const a = await addSandbox(h1, 'a');
  const b = await addSandbox(h2, 'b');

  const snapshot = async (): Promise<Record<string, unknown>> => ({
    store: await h1.must(['curl', '-sf', '--unix-socket', '/var/lib/weft/etcd/client:0', '-d', everything, 'http://localhost/v3/kv/range']).then((text) => (JSON.parse(text) as { kvs: unknown[] }).kvs),
    members: await h1.must(['curl', '-sf', '--unix-socket', '/var/lib/weft/etcd/client:0', '-d', '{}', 'http://localhost/v3/cluster/member/list']).then((text) => (JSON.parse(text) as { members: unknown[] }).members),
    nodes: await Promise.all([h1, h2].map((host) => weftJson(host, 'node', 'ls'))),
    endpoints: await Promise.all([h1, h2].map((host) => weftJson(host, 'network', 'inspect', 'web'))),
    status: await Promise.all([h1, h2].map(async (host) => {
      const { members, counts, problems } = await weftJson<Record<string, unknown>>(host, 'status');
      return { members, counts, problems };
    })),
  });
  await until('both know both endpoints', async () => (await Promise.all([h1, h2].map((host) => weftJson<{ endpoints: object[] }>(host, 'network', 'inspect', 'web')))).every(({ endpoints }) => endpoints.length === 2), 10_000);
  const before = await snapshot();
  t.ok((before['store'] as unknown[]).length > 5);

  // What listens, as the host says: a port that is new here is to be tried, too.
  const open = (await h1.must(['ss', '-Hlntu'])).trim().split('\n').map((line) => line.split(/\s+/)).filter(([, , , , local = '']) => !/^(127\.|\[::1\])/.test(local)).map(([protocol, , , , local = '']) => `${protocol} ${local.replace(/.*:/, '')}`);
  // Multicast discovery asks, and hears answers, at a port that the kernel chose.
  const [chosen, ...more] = [...new Set(open)].filter((each) => Number(each.split(' ')[1]) >= 32_768);
  t.match(chosen, /^udp/);
  t.same(more, []);
  t.same([...new Set(open)].filter((each) => each !== chosen).toSorted(), ['tcp 7947', 'tcp 7948', 'tcp 7949', 'udp 4789', 'udp 7947', 'udp 7950']);

  await t.test('gossip, in the clear and sealed by another key', async (t2) => {
    const nodes = await weftJson<{ id: string; name: string; address: string }[]>(h1, 'node', 'ls');
    const ways = nodes.flatMap((node) => [[], [Buffer.alloc(32, 7).toString('base64')]].map((key) => ({ node, key })));
    const ports = ['7947', '7950', chosen!.split(' ')[1]!];
    await Promise.all(ways.flatMap((way) => ports.map((port) => ({ ...way, port }))).map(async ({ node: { id, name, address }, key, port }) => {
      const answers = JSON.parse(await h3.must([...script('intruder.ts'), address, port, id, ...key])) as Record<string, number>;
      t2.equal(Object.keys(answers).length, 22);
      t2.same(Object.entries(answers).filter(([, type]) => type !== -1 && type !== ERROR), [], `${name} says nothing at ${port} ${key.length > 0 ? 'to another key' : 'in the clear'}`);
    }));
  });

  await t.test('every TCP port, with and without TLS, without a certificate and with one of its own making', async (t2) => {
    const id = (await weftJson<{ id: string; self: boolean }[]>(h1, 'node', 'ls')).find(({ self }) => self)!.id;
    await h3.must(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/O=Weft', '-addext', `subjectAltName=URI:weft://node/${id},IP:${h3.address}`, '-keyout', '/run/own.key', '-out', '/run/own.pem'], { timeoutMs: 20_000 });
    for (const [port, calls] of Object.entries(CALLS)) {
      await Promise.all(calls.map(async ([path = '', ...options]) => {
        for (const [how, scheme, ...certificate] of [['in the clear', 'http'], ['without a certificate', 'https'], ['with its own', 'https', '--cert', '/run/own.pem', '--key', '/run/own.key']] as const) {
          const { stdout } = await h3.exec(['curl', '-sk', '-m', '2', ...certificate, ...options, `${scheme}://${h1.address}:${port}${path}`]);
          const isRefusal = stdout === '' || /^\{"code":"WEFT-(CALL-UNKNOWN|INPUT-MALFORMED)"/.test(stdout) || stdout.startsWith('Client sent an HTTP request to an HTTPS server');
          t2.ok(isRefusal, `${port}${path} ${how}: ${stdout.slice(0, 200)}`);
        }
      }));
    }
  });

  await t.test('joining with a token that is nearly right', async (t2) => {
    const wrong = token.replace(/-[0-9a-z]{25}@/, `-${'0'.repeat(25)}@`);
    t2.match((await weft(h3, 'join', wrong, '--no-start', '--name', 'h3')).stderr, /WEFT-TOKEN-REFUSED/);
    const body = JSON.stringify({ secret: '', request: '-----BEGIN CERTIFICATE REQUEST-----', id: 'f'.repeat(16), name: 'h3', address: h3.address });
    t2.match((await h3.exec(['curl', '-sk', '-m', '5', '-d', body, `https://${h1.address}:7947/v1/join`])).stdout, /^\{"code":"WEFT-TOKEN-REFUSED"/);
  });

  await t.test('frames into a network', async (t2) => {
    const send = async (from: Host): Promise<string> => {
      const capture = await h1.capture(a.device, 'udp port 4001', 'a');
      await from.must([...script('frame.ts'), h1.address, String(vni), b.mac, b.address, a.mac, a.address, '4001']);
      return (await capture.stop()).trim();
    };
    t2.match(await send(h2), /UDP/, 'from a member they arrive');
    t2.equal(await send(h3), '', 'from an outsider they do not');
  });

  const after = await snapshot();
  for (const what of Object.keys(before)) t.same(after[what], before[what], `${what}: as before`);
  t.equal((await h2.exec(['ip', 'netns', 'exec', 'b', 'busybox', 'ping', '-c', '1', '-W', '1', 'a'])).code, 0, 'and traffic goes on');
});

async function addSandbox(host: Host, name: string): Promise<{ address: string; device: string; mac: string }> {
  const { address } = await weftJson<{ address: string }>(host, 'sandbox', 'add', name, '--network', 'web');
  const links = JSON.parse(await host.must(['ip', '-n', name, '-j', 'link'])) as { ifname: string; address: string; link_type: string }[];
  const { ifname: device, address: mac } = links.find(({ link_type: type }) => type === 'ether')!;
  return { address: address.replace(/\/.*/, ''), device, mac };
}
