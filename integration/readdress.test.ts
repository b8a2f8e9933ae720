/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker; the cluster's own store, of which in the end each holds a copy
 *
 * A host gets another address: first the one that holds the store alone, then one of three that hold it.
 */
import tap, { test } from 'tap';
import type { Host, Service } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(300_000);

test('a changed address is followed by everything that names it', async (t) => {
  const lab = await createLab({ name: 'readdress', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  const first = await weftUp(h1);
  const { token } = await until('a token', () => weftJson<{ token: string }>(h1, 'token'), 40_000);
  const join = async (host: Host): Promise<Service> => {
    const { code, stderr } = await weft(host, 'join', token, '--no-start', '--name', host.name);
    if (code !== 0) throw new Error(stderr);
    const service = await startWeftd(host);
    await ready(host);
    return service;
  };
  await join(h2);
  await weftJson(h1, 'network', 'create', 'web');
  await until('h2 has the network', async () => (await weftJson<object[]>(h2, 'network', 'ls')).length === 1, 10_000);
  for (const [host, name] of [[h1, 'a'], [h2, 'b']] as const) await weftJson(host, 'sandbox', 'add', name, '--network', 'web');
  const reaches = async (host: Host, from: string, to: string): Promise<boolean> => (await host.exec(['ip', 'netns', 'exec', from, 'busybox', 'ping', '-c', '1', '-W', '1', to])).code === 0;
  await until('b reaches a', () => reaches(h2, 'b', 'a'), 10_000);

  const seenBy = async (host: Host): Promise<string[]> => (await weftJson<{ name: string; address: string; state: string }[]>(host, 'node', 'ls')).map(({ name, address, state }) => `${name} ${address} ${state}`);
  /** Restarts weftd with that address, and waits until every node has it. */
  const move = async (host: Host, service: Service, address: string, others: readonly Host[]): Promise<void> => {
    await service.stop();
    const { code, stderr } = await weft(host, 'up', '--no-start', '--advertise', address);
    t.equal(code, 0, stderr);
    const start = performance.now();
    await service.start();
    await ready(host);
    for (const other of others) await until(`${other.name} sees ${host.name} at ${address}`, async () => (await seenBy(other)).includes(`${host.name} ${address} alive`), 60_000, 200);
    t.comment(`${host.name} is seen at its new address after ${Math.round(performance.now() - start)} ms`);
    await until('its certificate names it', async () => (await host.must(['openssl', 'x509', '-in', '/var/lib/weft/identity/node.pem', '-noout', '-ext', 'subjectAltName'])).includes(`IP Address:${address},`), 20_000);
    const members = ['curl', '-sf', '--unix-socket', '/var/lib/weft/etcd/client:0', '-d', '{}', 'http://localhost/v3/cluster/member/list'];
    await until('the store names it', async () => {
      const list = await host.must(members);
      return list.includes(`https://${address}:7949`) && list.includes(`https://${address}:7948`) && !list.includes(`${host.address}:`);
    }, 60_000, 200);
  };

  const moved1 = await lab.addNic(1);
  await move(h1, first, moved1, [h2]);
  await until('b reaches a at its new address', () => reaches(h2, 'b', 'a'), 20_000);
  await until('h2 asks the store there', async () => (await weft(h2, 'status')).stdout.includes(`etcd at https://${moved1}:7948`), 30_000);
  t.equal((await weft(h2, 'network', 'create', 'later')).code, 0, 'and is answered');

  const { token: next } = await weftJson<{ token: string }>(h1, 'token');
  t.ok(next.endsWith(`@${moved1}:7947`), 'a token is for the address as it is now');
  t.equal((await weft(h3, 'join', next, '--no-start', '--name', 'h3')).code, 0);
  const third = await startWeftd(h3);
  await ready(h3);
  const isSafe = (): Promise<unknown> => until('three have a vote', async () => /1 voter may be lost without effect/.test((await weft(h2, 'status')).stdout), 90_000, 200);
  await isSafe();
  await move(h3, third, await lab.addNic(3), [h1, h2]);
  await isSafe();
  await h1.powerCut();
  await until('the store does without the first', async () => (await weft(h3, 'network', 'create', 'third')).code === 0, 30_000);
});
