import { test } from 'tap';
import { VirtualClock } from '../../base/virtual-clock.ts';
import { createSearch } from './encryption-search.ts';

test('a kernel that lacks something is not asked for it again and again', async (t) => {
  const clock = new VirtualClock();
  let asked = 0;
  let loaded: string | undefined;
  const { found, look, lookOnce, lookNowAndThen } = createSearch(() => (asked++, loaded), clock);
  t.equal(found(), undefined);
  t.equal(asked, 0, 'nobody wants it');
  for (let i = 0; i < 3; i++) t.equal(lookOnce(), undefined);
  for (let i = 0; i < 3; i++) t.equal(lookNowAndThen(), undefined);
  t.equal(asked, 1);
  await clock.advance(30_000);
  lookOnce();
  t.equal(asked, 1);
  for (let i = 0; i < 3; i++) lookNowAndThen();
  t.equal(asked, 2, 'after half a minute');
  loaded = 'module';
  t.equal(found(), undefined);
  t.equal(look(), 'module', 'and whenever somebody insists');
  await clock.advance(30_000);
  t.same([found(), look(), lookOnce(), lookNowAndThen()], Array.from({ length: 4 }, () => 'module'));
  t.equal(asked, 3, 'what is there is not looked for');
});
