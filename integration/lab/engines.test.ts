/**
 *   h1: the engine of a later Debian suite
 */
import tap, { test } from 'tap';
import { fetchEngine } from './engines.ts';
import { IMAGE } from './image.ts';
import { createLab } from './lab.ts';

tap.setTimeout(240_000);

test('a newer engine runs on a host', async (t) => {
  const engine = await fetchEngine('forky').catch((error: unknown) => String(error));
  if (!engine.startsWith('/')) return void t.skip(`the mirror has no such engine: ${engine}`);
  const lab = await createLab({ name: 'engine', hosts: 1, docker: true, engine });
  t.teardown(() => lab.destroy());
  const version = await lab.host(1).docker('version', '-f', '{{.Server.Version}}');
  t.ok(Number(version.split('.')[0]) >= 28, version);
  t.equal(await lab.host(1).docker('run', '--rm', IMAGE, 'echo', 'it runs'), 'it runs');
});
