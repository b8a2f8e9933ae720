import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { createSerializer } from './serialize.ts';

test('tasks of one key run one after another, whatever becomes of them', async (t) => {
  const serialize = createSerializer();
  const seen: string[] = [];
  const task = (name: string, end: () => void = () => {}) => async (): Promise<string> => {
    seen.push(`${name} begins`);
    await nextTurn();
    seen.push(`${name} ends`);
    end();
    return name;
  };
  const fail = (): never => { throw new Error('no'); };
  const results = await Promise.allSettled([serialize('k', task('a')), serialize('k', task('b', fail)), serialize('k', fail), serialize('k', task('c'))]);
  t.same(seen, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  t.same(results.map(({ status }) => status), ['fulfilled', 'rejected', 'rejected', 'fulfilled']);
  t.equal(await serialize('k', task('d')), 'd', 'and later ones');
});

test('tasks of different keys do not wait for each other', async (t) => {
  const serialize = createSerializer();
  const held = Promise.withResolvers<string>();
  const first = serialize('a', () => held.promise);
  t.equal(await serialize('b', async () => 'b'), 'b');
  held.resolve('a');
  t.equal(await first, 'a');
});

test('a task that begins others of its key does not hold up what it does not wait for', async (t) => {
  const serialize = createSerializer();
  const seen: string[] = [];
  let inner: Promise<void> | undefined;
  await serialize('k', async () => {
    inner = serialize('k', async () => void seen.push('inner'));
    await nextTurn();
    seen.push('outer');
  });
  await inner;
  t.same(seen, ['outer', 'inner']);
});
