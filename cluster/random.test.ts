/** Random lives of whole clusters; `SEED=n` replays one, `SEEDS=from-to` runs others. */
import tap, { test } from 'tap';
import { randomRun } from './random-run-for-tests.ts';

const [first = 1, last = first] = (process.env['SEED'] ?? process.env['SEEDS'] ?? '1-500').split('-').map(Number);

// Half a second each, ten times what it takes on a quiet machine.
tap.setTimeout(Math.max(570_000, (last - first + 1) * 500));

void test(`all views are equal in the end, seeds ${first} to ${last}`, async (t) => {
  for (let seed = first; seed <= last; seed++) {
    const wrong = await randomRun(seed);
    if (wrong !== undefined) t.fail(wrong);
  }
  t.pass(`${last - first + 1} lives`);
});
