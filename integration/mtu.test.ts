/**
 *            router          drops what is larger than it should be, and tells nobody
 *          /   |    \
 *        h1   h2    h3       Docker on all; h3's interface carries 1400, where the others' carry 1500
 *         |    |     |
 *        api worker (extra)  network web
 *
 * Running containers follow what the underlay carries, in both directions; a black hole is found, named and gone around.
 */
import { setTimeout as delay } from 'node:timers/promises';
import tap, { type Test, test } from 'tap';
import type { Host } from './lab/host.ts';
import { formCluster, joinHost } from './lab/cluster.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { must, until } from './lab/run.ts';
import { ready, weft, weftJson } from './lab/weft.ts';

tap.setTimeout(400_000);

const FILE_BYTES = 30_000_000;

test('the MTU of running containers', async (t) => {
  const lab = await createLab({ name: 'mtu', hosts: 3, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  const third = lab.hosts.pop()!;
  const services = await formCluster(lab);
  lab.hosts.push(third);
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'web');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', '-o', 'weft.mtu=1440', 'fixed');
  const run = (host: Host, name: string, network: string, ...args: string[]): Promise<string> => host.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...args, IMAGE, 'sleep', '100000');
  for (const network of ['web', 'fixed']) await until(`h2 has ${network}`, async () => (await h2.tryDocker('network', 'inspect', network)).code === 0);
  await Promise.all([run(h1, 'api', 'web'), run(h2, 'worker', 'web', '-p', '8085:80'), run(h1, 'own', 'fixed')]);
  const mtu = async (host: Host, container: string): Promise<number> => Number(/ mtu (\d+) /.exec(await host.docker('exec', container, 'ip', '-o', 'link', 'show', 'eth0'))![1]);
  const mtus = (): Promise<number[]> => Promise.all([mtu(h1, 'api'), mtu(h2, 'worker')]);
  const become = async (t: Test, what: string, wanted: number, timeoutMs: number): Promise<void> => {
    const began = Date.now();
    await until(`the MTU is ${wanted}: ${what}`, async () => (await mtus()).every((each) => each === wanted), timeoutMs, 100);
    t.pass(`${what}: ${wanted} after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  };
  await until('they know each other', async () => (await h1.tryDocker('exec', 'api', 'ping', '-c', '1', '-W', '1', 'worker')).code === 0);
  /** Of one piece, and none is answered by a smaller one. */
  const pings = async (bytes: number): Promise<boolean> => (await h1.tryDocker('exec', 'api', 'ping', '-c', '1', '-W', '1', '-s', String(bytes - 28), 'worker')).code === 0;
  await h2.docker('exec', 'worker', 'sh', '-c', `head -c ${FILE_BYTES} /dev/zero > /www/large; httpd -p 80 -h /www`);
  const fetch = (): Promise<{ code: number; stdout: string }> => h1.tryDocker('exec', 'api', 'sh', '-c', 'timeout 60 wget -q -O - http://worker/large | wc -c');

  t.same(await mtus(), [1450, 1450]);
  t.ok(await pings(1450));

  await t.test('follows a host with a smaller interface', async (t) => {
    await must(['ip', '-n', h3.namespace, 'link', 'set', 'eth0', 'mtu', '1400']);
    await joinHost(h3, (await weftJson<{ token: string }>(h1, 'token')).token);
    await become(t, 'a host joined', 1350, 10_000);
    t.ok(await pings(1350));
    t.equal(await mtu(h1, 'own'), 1440, 'what its user has chosen stays');
    await must(['ip', '-n', h3.namespace, 'link', 'set', 'eth0', 'mtu', '1460']);
    await become(t, 'its interface carries more', 1410, 10_000);
    await must(['ip', '-n', h3.namespace, 'link', 'set', 'eth0', 'mtu', '1500']);
    await become(t, 'as much as the others\'', 1450, 10_000);
    t.ok(await pings(1450));
    for (const host of lab.hosts) t.notMatch((await weft(host, 'status')).stdout, / had another mtu/, 'nothing was broken');
  });

  await t.test('follows routes', async (t) => {
    await must(['ip', '-n', h2.namespace, 'route', 'add', h1.address, 'via', '10.99.2.254', 'mtu', '1300']);
    await become(t, 'a route of one of them', 1250, 40_000);
    await must(['ip', '-n', h2.namespace, 'route', 'del', h1.address]);
    await become(t, 'it is gone', 1450, 40_000);
    t.equal((await fetch()).stdout.trim(), String(FILE_BYTES));
  });

  await t.test('a black hole is found, named, and gone around', async (t) => {
    const nft = (line: string): Promise<string> => must(['ip', 'netns', 'exec', lab.namespace('router'), 'nft', line]);
    // As on a wire: cables of the lab take what TCP sends in pieces of 64 KiB, and no rule could tell them from large packets.
    for (const host of [h1, h2]) await must(['ip', '-n', host.namespace, 'link', 'set', 'eth0', 'gso_max_segs', '1', 'gso_max_size', '2000']);
    await nft('add table inet hole');
    await nft('add chain inet hole forward { type filter hook forward priority 0; }');
    /** Some seconds' worth: it is on its way when the hole opens. */
    const pieces = 150;
    const script = `#!/bin/sh\nprintf "Content-Type: application/octet-stream\\r\\n\\r\\n"\ni=0; while [ $i -lt ${pieces} ]; do head -c 1000000 /dev/zero; i=$((i+1)); usleep 50000; done\n`;
    await h2.docker('exec', 'worker', 'sh', '-c', `mkdir -p /www/cgi-bin && printf '%s' '${script}' > /www/cgi-bin/stream && chmod +x /www/cgi-bin/stream`);
    const transfer = h1.tryDocker('exec', 'api', 'sh', '-c', 'timeout 150 wget -q -O - http://worker/cgi-bin/stream | wc -c');
    await delay(2_000);
    for (const [from, to] of [[h1, h2], [h2, h1]] as const) await nft(`add rule inet hole forward ip saddr ${from.address} ip daddr ${to.address} udp dport 4789 meta length > 1378 drop`);
    const opened = Date.now();
    t.notOk(await pings(1450));
    t.ok(await pings(1328), 'small ones pass');
    const problems = async (host: Host): Promise<string | undefined> => (await weft(host, 'status')).stdout.match(/^! WEFT-PATH-MTU.*$/gm)?.join('\n');
    for (const [host, other] of [[h1, h2], [h2, h1]] as const) {
      const text = await until(`${host.name} names it`, () => problems(host), 60_000, 200);
      t.match(text, new RegExp(`packets of more than 1378 bytes from node ${host.name} get lost on the way to node ${other.name}, .* promise 1500; let what is between the two carry 1500,.*overlays use 1328 at most`));
    }
    t.pass(`named after ${((Date.now() - opened) / 1000).toFixed(1)} s`);
    t.equal(await problems(h3), undefined, 'it is not on any way of h3');
    await become(t, 'containers follow', 1328, 20_000);
    t.ok(await pings(1328));
    t.equal((await transfer).stdout.trim(), String(pieces * 1_000_000), `the stream that was on its way went on, and ended ${((Date.now() - opened) / 1000).toFixed(1)} s after the hole opened`);
    t.equal((await fetch()).stdout.trim(), String(FILE_BYTES));
    const outside = async (host: Host): Promise<string> => (await lab.on('outside', ['sh', '-c', `curl -s -m 30 http://${host.address}:8085/large | wc -c`])).stdout.trim();
    for (const host of [h1, h2]) t.equal(await outside(host), String(FILE_BYTES), `by the published port of ${host.name}`);

    await services.get(h1)!.crash();
    await ready(h1);
    await delay(5_000);
    t.same(await mtus(), [1328, 1328], 'a new weftd remembers it');
    t.match(await problems(h1), /1378/);

    await nft('delete table inet hole');
    await become(t, 'the hole is filled', 1450, 60_000);
    t.ok(await pings(1450));
    for (const host of lab.hosts) t.equal(await problems(host), undefined);
  });
});
