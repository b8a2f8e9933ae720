/**
 *   h1: the engine of a later Debian suite
 */
import tap, { test } from 'tap';
import { fetchEngine } from './engines.ts';
import { IMAGE } from './image.ts';
import { createLab } from './lab.ts';

tap.setTimeout(240_000);

test('a newer engine runs on a host', async (t) => {
  const engine = await fetchEngine('forky').catch(String);
  if (!engine.startsWith('/')) {
    t.pass('a newer engine', { skip: `the mirror has none: ${engine}` });
    return;
  }
  const lab = await createLab({ name: 'engine', hosts: 1, docker: true, engine });
  t.teardown(() => lab.destroy());
  const version = await lab.host(1).docker('version', '-f', '{{.Server.Version}}');
  t.ok(Number(version.split('.')[0]) >= 28, version);
  t.equal(await lab.host(1).docker('run', '--rm', IMAGE, 'echo', 'it runs'), 'it runs');
});
