/**
 *   h1     Docker, weftd with its embedded store; wo (weft-overlay), wb (weft-bridge)
 *
 * Fifty containers are started at once on one network, then fifty on the other, then all are removed at once: whatever the kernel, the address manager
 * and weftd had before is what they have afterwards.
 */
import tap, { test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import { findings, usedAddresses } from './faults/views.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { control, weftUp } from './lab/weft.ts';

const AT_ONCE = 50;
/** Every fifth of them publishes a port. */
const PUBLISHES = 5;
const START_MS = 300_000;
tap.setTimeout(600_000);

/** All that containers leave in the kernel, in every namespace of ours and the host's. */
const KERNEL = `
for space in host weft weft-bridge; do
  [ $space = host ] && in= || in="ip netns exec $space"
  echo "=== $space"
  $in ip -o link | sed 's/^[0-9]*: //; s/[@:].*//' | sort
  $in ip -o address | awk '{ print $2, $4 }' | grep -v ' fe80:' | sort
  $in ip route show table all | grep -v ' fe80:\\|^fe80:\\|^ff00:\\|^multicast' | sort
  $in ip rule; $in ip -6 rule
  $in bridge fdb | grep 'static\\| dst ' | sort
  $in ip neigh | grep PERMANENT | sort
  $in tc qdisc show | grep -v ' noqueue ' | sed 's/ parent .*//' | sort
  $in nft --stateless list ruleset | sort
done
ls /run/netns`;

async function view(host: Host): Promise<{ kernel: string[]; used: number; endpoints: number; sandboxes: number; problems: string[] }> {
  const { counts } = await control<StatusAnswer>(host, 'GET', 'status');
  return {
    kernel: (await host.must(['sh', '-c', KERNEL])).split('\n'), used: await usedAddresses(host), endpoints: counts.endpoints, sandboxes: counts.sandboxesWithNames, problems: await findings(host),
  };
}

void test('fifty containers at once', async (t) => {
  const lab = await createLab({ name: 'burst', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  const networks = ['wo', 'wb'];
  await host.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'wo');
  await host.docker('network', 'create', '-d', 'weft-bridge', '--ipam-driver', 'weft', 'wb');
  // What is built for the first container of a network stays.
  for (const network of networks) await host.docker('run', '--rm', '--network', network, '-p', '9000:80', IMAGE, 'true');
  const before = await view(host);

  const names = (network: string): string[] => Array.from({ length: AT_ONCE }, (_, i) => `${network}-${i}`);
  for (const [n, network] of networks.entries()) {
    await t.test(`starts them on ${network}`, async (each) => {
      const start = performance.now();
      const results = await Promise.all(names(network).map((name, i) => host.exec([
        'docker', 'run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, ...(i % PUBLISHES === 0 ? ['-p', `${8000 + 100 * n + i}:80`] : []), IMAGE, 'sleep', '100000',
      ], { timeoutMs: START_MS })));
      each.comment(`${((performance.now() - start) / 1000).toFixed(1)} s`);
      each.same(results.flatMap(({ code, stderr }) => (code === 0 ? [] : [stderr])), [], 'all of them');
      const addresses = (await host.docker('inspect', '-f', `{{.NetworkSettings.Networks.${network}.IPAddress}}`, ...names(network))).split('\n');
      each.equal(new Set(addresses).size, AT_ONCE, 'each has an address of its own');
      const [first, ...others] = names(network) as [string, ...string[]];
      const silent = (await host.docker('exec', first, 'sh', '-c', `for name in ${others.join(' ')}; do ping -c 1 -W 5 $name > /dev/null || echo $name; done`)).split('\n').filter(Boolean);
      each.same(silent, [], 'all are found by name, and answer');
    });
  }
  await t.test('removes all hundred', async (each) => {
    const all = networks.flatMap(names);
    const results = await Promise.all(all.map((name) => host.exec(['docker', 'rm', '-f', name], { timeoutMs: START_MS })));
    each.same(results.flatMap(({ code, stderr }) => (code === 0 ? [] : [stderr])), [], 'all of them');
    // Weft hears of it from Docker.
    await until('all is as before', async () => JSON.stringify(await view(host)) === JSON.stringify(before), 20_000).catch(() => undefined);
    each.same(await view(host), before, 'nothing is left');
  });
});
