import { test } from 'tap';
import { type Answer, outagesOf } from './traffic.ts';

/** Pings of 0.2 s, answered after 1 ms, but for those left out. */
const answers = (count: number, differs: (sequence: number) => Partial<Answer> | undefined = () => ({})): Answer[] =>
  Array.from({ length: count }, (_, sequence) => ({ sequence, at: 200 * sequence + 1, took: 1, changed: differs(sequence) }))
    .flatMap(({ changed, ...answer }) => (changed ? [{ ...answer, ...changed }] : []));

void test('what counts as an outage of 1.5 s', async (t) => {
  const now = 20_000;
  t.same(outagesOf(answers(100), now, 1500), [], 'every ping was answered');
  t.same(outagesOf(answers(100, (i) => (i > 10 && i < 18 ? undefined : {})), now, 1500), [{ from: 2001, to: 3601 }], 'seven were not, one after the other');
  t.same(outagesOf(answers(100, (i) => (i > 10 && i < 17 ? undefined : {})), now, 1500), [], 'six were not');
  t.same(outagesOf(answers(100, (i) => (i > 10 && i < 18 ? { at: 3601, took: 3600 - 200 * i } : {})), now, 1500), [{ from: 2001, to: 3601 }], 'what was held back and came at once');
  t.same(outagesOf(answers(100, (i) => (i > 10 ? { at: 200 * i + 5001 } : {})), now + 5000, 1500), [], 'nothing was asked for five seconds');
  t.same(outagesOf(answers(50), now, 1500), [{ from: 9801, to: now }], 'nothing more came');
  t.same(outagesOf([], now, 1500), [{ from: 0, to: now }], 'nothing came');
});
