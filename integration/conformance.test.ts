/**
 *   router
 *     |
 *    h1 10.99.1.1, weftd, no Docker
 *
 * The plugin sockets of a real weftd, asked by the conformance kit as dockerd asks on a bad day.
 */
import { resolve } from 'node:path';
import tap, { test } from 'tap';
import type { Report } from '../plugin-spec/conformance/conformance.ts';
import { createLab } from './lab/lab.ts';
import { run } from './lab/run.ts';
import { weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const KIT = resolve(import.meta.dirname, '../plugin-spec/conformance/main.ts');

test('the plugin sockets of weftd keep Docker\'s rules', async (t) => {
  const lab = await createLab({ name: 'conform', hosts: 1 });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  for (const [i, [plugin, fewest]] of ([['weft-overlay', 25], ['weft-bridge', 25], ['weft-macvlan', 25], ['weft', 15]] as const).entries()) {
    // As this machine sees the host's files. Networks of the kit stay behind the overlay's plugin, so each has its own subnets.
    const socket = `/proc/${host.pid}/root/run/docker/plugins/${plugin}.sock`;
    const { code, stdout, stderr } = await run([process.execPath, KIT, socket, '--json', '--subnet', `10.${211 + i}.0.0/16`]);
    const { results, leftovers } = JSON.parse(stdout || '{"results":[],"leftovers":[]}') as Report;
    t.ok(results.filter(({ status }) => status === 'ok').length >= fewest, `${results.length} checks of ${plugin} ${stderr}`);
    for (const { name, status, detail } of results) t.ok(status === 'ok' || status === 'skipped', `${plugin}: ${name} ${detail}`, { detail });
    t.same(leftovers, [], `${plugin}: all could be given back`);
    t.equal(code, 0, `${plugin}: exit status`);
  }
});
