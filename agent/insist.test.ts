import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { insist } from './insist.ts';

// Its timers do not keep a process alive.
const awake = setInterval(() => {}, 1000);

void test('it is asked until it is answered', async (t) => {
  t.teardown(() => clearInterval(awake));
  let asked = 0;
  const answer = await insist('asked in vain', log, async () => {
    if (++asked < 2) throw new Error('away');
    return 'here';
  });
  t.same([answer, asked], ['here', 2]);

  const over = new AbortController();
  const inVain = insist('asked in vain', log, async () => {
    asked++;
    throw new Error('away');
  }, over.signal);
  over.abort(new Error('weftd stops'));
  await t.rejects(inVain, { message: 'weftd stops' });
  t.equal(asked, 3, 'and not again once it is over');
});
