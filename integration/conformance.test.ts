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
  for (const plugin of ['weft-overlay', 'weft-bridge', 'weft']) {
    // As this machine sees the host's files.
    const results = await runConformance({ socketPath: `/proc/${host.pid}/root/run/docker/plugins/${plugin}.sock` });
    for (const { check, ok, detail } of results) t.ok(ok, `${plugin}: ${check}`, { detail });
    t.ok(results.length > 10, `${results.length} checks of ${plugin}`);
  }
});
