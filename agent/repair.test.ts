import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { silentLogger } from '../base/log.ts';
import { createRepairLoop } from './repair.ts';

test('a repair is run each half minute, a moment after disturbances, and soon again after it failed', async (t) => {
  const clock = new VirtualClock();
  const runs: number[] = [];
  let failing = false;
  let unmended: string | undefined;
  const loop = createRepairLoop({
    clock, log: silentLogger,
    passes: [async () => {
      runs.push(clock.now());
      if (failing) throw new Error('the kernel is busy');
      return unmended === undefined ? [] : [{ what: 'network web could not be mended', error: unmended }];
    }],
  });
  t.teardown(() => loop.close());

  loop.disturbed();
  loop.disturbed();
  await clock.advance(1_000);
  t.same(runs, [150], 'several disturbances, one look');
  await clock.advance(29_000);
  t.same(runs, [150, 30_000]);

  failing = true;
  loop.disturbed();
  await clock.advance(8_000);
  t.same(runs.slice(2), [30_150, 30_650, 31_650, 33_650, 37_650], 'less and less often');
  failing = false;
  await clock.advance(10_000);
  t.same(runs.slice(7), [45_650], 'until it succeeds');
  t.match(loop.recent.at(-1), { what: 'a repair could not be finished', error: 'the kernel is busy' });
  failing = true;
  loop.disturbed();
  await clock.advance(700);
  t.same(runs.slice(8), [48_150, 48_650], 'then from the beginning');
  failing = false;
  await clock.advance(1_000);
  unmended = 'EEXIST';
  const before = runs.length;
  loop.disturbed();
  await clock.advance(1_000);
  t.equal(runs.length - before, 2, 'also after what could not be mended');
});
