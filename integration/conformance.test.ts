/**
 *   router
 *     |
 *    h1 10.99.1.1, weftd, no Docker
 *
 * The plugin sockets of a real weftd, asked by the conformance kit as dockerd asks on a bad day.
 */
import tap, { test } from 'tap';
import { runConformance } from '../plugin-spec/conformance.ts';
import { createLab } from './lab/lab.ts';
import { weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

test('the plugin sockets of weftd keep Docker\'s rules', async (t) => {
  const lab = await createLab({ name: 'conform', hosts: 1 });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  for (const [i, plugin] of ['weft-overlay', 'weft-bridge', 'weft'].entries()) {
    const results = await runConformance({
      // As this machine sees the host's files.
      socketPath: `/proc/${host.pid}/root/run/docker/plugins/${plugin}.sock`,
      // Networks of the kit stay behind the overlay's plugin: see below.
      subnet: (n) => `10.${211 + i}.${n}.0/24`,
    });
    t.ok(results.length > 10, `${results.length} checks of ${plugin}`);
    for (const { check, ok, detail } of results) {
      // Its Docker must also say that somebody removed the network: `docker system prune` deletes it on one host only.
      if (plugin === 'weft-overlay' && check === 'the same again in the same subnet') t.match(detail, 'WEFT-SUBNET-OVERLAP', 'an overlay outlives the call that deletes it');
      else t.ok(ok, `${plugin}: ${check}`, { detail });
    }
  }
});
