import { readdirSync, readlinkSync } from 'node:fs';
import { test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger, type Logger } from '../base/log.ts';
import { space } from '../linux/testing.ts';
import type { Netns } from '../linux/types.ts';
import { hookUp, type Hookup } from './hookup.ts';
import { NOTHING_KNOWN } from './remembered.ts';
import { foreignPorts } from './resolver-ports.ts';
import type { Chain } from './responder.ts';

const chain: Chain = Object.assign(() => 0, { known: () => NOTHING_KNOWN });

/** Sockets of this process; those that are being closed are gone two turns later. */
async function sockets(): Promise<number> {
  for (let turns = 0; turns < 4; turns++) await new Promise((resolve) => setImmediate(resolve));
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;
}

test('whatever fails while it is hooked up, nothing is left open, and the first error is the one that is told', async (t) => {
  const { netns, run } = space(t);
  const warnings: string[] = [];
  const log = { ...silentLogger, warn: (_: object, text: string) => void warnings.push(text) } as unknown as Logger;
  let hookup: Hookup | undefined;
  let failures = 0;
  for (let works = 0; !hookup; works++) {
    const before = await sockets();
    let calls = 0;
    // From one step on, the namespace cannot be entered any more: what takes the steps back fails as well.
    const failing: Netns = Object.assign(Object.create(netns) as Netns, {
      run: <T>(act: () => T): T => {
        if (calls++ >= works) throw new Error(`step ${calls}`);
        return netns.run(act);
      },
    });
    try {
      hookup = hookUp({ netns: failing, tableName: `weft-dns-test-${works}`, chain, batches: false, clock: systemClock, log, onDrop: () => {} });
    } catch (error) {
      failures++;
      t.equal((error as Error).message, `step ${works + 1}`);
      t.equal(await sockets(), before, `after ${works} steps`);
    }
  }
  t.ok(failures >= 3, `${failures} steps that can fail`);
  t.match(run('nft', 'list', 'tables'), /weft-dns-test/);
  await hookup.close();
  t.notMatch(run('nft', 'list', 'tables'), /weft-dns-test/);
  t.same(foreignPorts(netns), { udp: [], tcp: [] });
});
