/**
 * The whole story on three real Docker hosts:
 *
 *              outside (client, name server)
 *                 |
 *              router ------ (second network card of h2)
 *             /      \
 *      10.99.1.0/24   10.99.2.0/24
 *       h1      h3     h2
 *   ufw         |      two cards, no IPv6
 *           port 8081 taken
 *
 *   npm run demo [-- --keep] [--hosts N] [--engine DIRECTORY|VERSION]
 */
import { parseArgs } from 'node:util';
import { bridgeChapter, namesChapter, networksChapter, portsChapter } from './demo/use.ts';
import { findEngine } from './lab/engines.ts';
import { Stage } from './demo/stage.ts';
import { powerChapter, purgeChapter, removalChapter, troubleChapter } from './demo/trouble.ts';

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false }, hosts: { type: 'string', default: '3' }, engine: { type: 'string' } } });

const hosts = Number(values.hosts);
if (!Number.isInteger(hosts) || hosts < 3 || hosts > 20) {
  console.error('--hosts: the story needs 3 at least, and has room for 20');
  process.exit(2);
}
const stage = await Stage.open({ hosts, engine: values.engine === undefined ? undefined : await findEngine(values.engine) });
const { story } = stage;
try {
  await stage.up();
  await networksChapter(stage);
  await namesChapter(stage);
  await portsChapter(stage);
  await bridgeChapter(stage);
  await troubleChapter(stage);
  await removalChapter(stage);
  await powerChapter(stage);
  if (values.keep) stage.explainKeeping();
  else await purgeChapter(stage);
} catch (error) {
  story.check('the story goes on to its end', false, error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  if (!values.keep) await stage.close();
}
console.log(`\ndemo: ${story.passed} passed, ${story.failed} failed`);
process.exit(story.failed === 0 ? 0 : 1);
