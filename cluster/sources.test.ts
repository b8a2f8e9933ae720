import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { allAddresses } from './discovery.ts';
import { askSeldom } from './sources.ts';

void test('who is alone asks often at first and seldom later; who is not asks now and then', async (t) => {
  const clock = new VirtualClock();
  const asked: number[] = [];
  const ask = allAddresses({ one: { addresses: async () => (asked.push(clock.now()), []) } }, log);
  const addresses = askSeldom(ask, { clock, random: seededRandom(1) });
  /** As gossip does: every second when alone, else every five. How many questions there were. */
  const live = async (seconds: number, others: number): Promise<number> => {
    const before = asked.length;
    for (let i = 0; i < seconds; i++) {
      await addresses(others);
      await clock.advance(1_000);
    }
    return asked.length - before;
  };
  const first = await live(30, 0);
  t.ok(first >= 4 && first <= 6, `${first} questions in the first half minute`);
  await live(120, 0);
  const later = await live(600, 0);
  t.ok(later >= 4 && later <= 10, `${later} in ten minutes`);
  const among = await live(600, 3);
  t.ok(among >= 4 && among <= 10, `${among} among others`);
  const large = await live(3_600, 300);
  t.ok(large <= 13, `${large} an hour among 300: all together ask each about once a second`);
  const before = asked.length;
  await live(1, 0);
  t.equal(asked.length, before + 1, 'who lost all others asks at once');
});
