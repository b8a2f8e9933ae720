/** Everything that real engines sent is understood, and answered as it was when it was recorded. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { readAnswer } from './conformance/answers.ts';
import { readFixture } from './fixtures/fixture.ts';
import { memoryIpamDriver, memoryNetworkDriver } from './memory-driver.ts';
import { createPluginClient } from './plugin-client.ts';
import { servePlugin } from './server.ts';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const files = readdirSync(FIXTURES).filter((name) => name.endsWith('.json'));

const code = (error: string | undefined): string | undefined => error?.split(':', 1)[0];

for (const file of files) {
  test(file, async (t) => {
    const { headers, scenarios } = readFixture(join(FIXTURES, file));
    const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
    const path = join(directory, 'p.sock');
    const server = servePlugin({ name: 'p', network: memoryNetworkDriver({ gwAllocChecker: true }), ipam: memoryIpamDriver(), log: silentLogger, clock: systemClock });
    await server.listen({ path });
    const client = createPluginClient(path, { headers });
    t.teardown(async () => {
      client.close();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    });
    for (const { title, exchanges } of scenarios) {
      for (const { call, body, answer } of exchanges) {
        const got = await client.post(call, body === null ? '' : `${JSON.stringify(body)}\n`);
        const outcome = readAnswer(call, got);
        // Where the recorder broke the connection or refused, the driver behind it was not asked.
        if (answer === null || answer['Err'] === 'failed as told') continue;
        if (typeof answer['Err'] === 'string') t.equal(code(outcome.error), code(answer['Err']), `${title}: ${call}`);
        else t.same(outcome.value, answer, `${title}: ${call}`);
      }
    }
  });
}

test('what the recordings show of Docker\'s disorder', async (t) => {
  t.ok(files.length >= 2);
  for (const file of files) {
    const exchanges = readFixture(join(FIXTURES, file)).scenarios.flatMap((scenario) => scenario.exchanges);
    const arguments_ = (call: string): unknown[] => exchanges.filter((each) => each.call === call).map(({ body }) => body);
    t.ok(arguments_('NetworkDriver.CreateEndpoint').includes(null), `${file}: a call repeated without its body`);
    t.ok(exchanges.some(({ call, answer }) => call === 'NetworkDriver.CreateEndpoint' && answer === null), `${file}: a connection that broke`);
    t.ok(arguments_('NetworkDriver.Leave').length > arguments_('NetworkDriver.RevokeExternalConnectivity').length, `${file}: endpoints that were not the gateway`);
    t.ok(arguments_('NetworkDriver.DiscoverNew').length > 0, `${file}: discovery`);
  }
});
