import { test } from 'tap';
import { seededRandom } from '../base/random.ts';
import { createMemory } from './remembered.ts';

function scene() {
  let now = 0;
  const memory = createMemory({ now: () => now, random: seededRandom(1) });
  const out = Buffer.alloc(512);
  return { memory, advance: (ms: number) => void (now += ms), read: (of: ReturnType<typeof memory>, text: string): string => out.toString('latin1', 0, of.write(Buffer.from(text), text.length, out)) };
}
const forever = { turns: 1, turn: 0, until: Infinity, onUse: () => {} };

test('the same bytes have the same answer, under the id of who asks now', async (t) => {
  const { memory, read } = scene();
  const one = memory();
  let used = 0;
  one.add(Buffer.from('01question'), Buffer.from('01answer'), { ...forever, onUse: () => void used++ });
  t.equal(read(one, '77question'), '77answer');
  t.equal(read(one, '77QUESTION'), '');
  t.equal(used, 1);
  t.equal(read(memory(), '77question'), '', 'another sandbox has answers of its own');
  one.clear();
  t.equal(read(one, '77question'), '');
  const long = `01${'x'.repeat(400)}`;
  one.add(Buffer.from(long), Buffer.from('01answer'), forever);
  t.equal(read(one, long), '');
});

test('an answer has its time', async (t) => {
  const { memory, read, advance } = scene();
  const one = memory();
  one.add(Buffer.from('01q'), Buffer.from('01a'), { ...forever, until: 1_000 });
  advance(999);
  t.equal(read(one, '02q'), '02a');
  advance(1);
  t.equal(read(one, '02q'), '');
  one.add(Buffer.from('01q'), Buffer.from('01b'), { ...forever, until: 2_000 });
  t.equal(read(one, '02q'), '02b');
});

test('answers that take turns are given in all of them', async (t) => {
  const { memory, read } = scene();
  const one = memory();
  for (const turn of [0, 1, 2]) one.add(Buffer.from('01q'), Buffer.from(`01turn ${turn}`), { ...forever, turns: 4, turn });
  const seen = new Set(Array.from({ length: 100 }, () => read(one, '01q')));
  t.same([...seen].sort(), ['', '01turn 0', '01turn 1', '01turn 2'], 'one that is not known yet is to be made');
  one.add(Buffer.from('01many'), Buffer.from('01x'), { ...forever, turns: 200, turn: 7 });
  t.equal(read(one, '01many'), '');
});

test('a megabyte of all sandboxes together, and the oldest go first', async (t) => {
  const { memory, read } = scene();
  const [one, two] = [memory(), memory()];
  const answer = Buffer.alloc(500, 'x');
  const COUNT = 4_000;
  const of = (i: number): typeof one => (i % 2 ? one : two);
  const isKnown = (i: number): boolean => read(of(i), `01${i}`) !== '';
  for (let i = 0; i < COUNT; i++) of(i).add(Buffer.from(`01${i}`), answer, forever);
  const known = Array.from({ length: COUNT }, (_, i) => isKnown(i));
  const first = known.indexOf(true);
  t.ok(first > 2_000 && first < COUNT - 700, `${COUNT - first} are known`);
  t.notOk(known.slice(first).includes(false), 'the newest of both');
  for (let round = 0; round < COUNT; round++) of(first + 1).add(Buffer.from(`01${first + 1}`), answer, { ...forever, until: 1 + round });
  t.ok(isKnown(first), 'one that is replaced is counted once');
  one.clear();
  t.same([isKnown(COUNT - 1), isKnown(COUNT - 2)], [false, true]);
  for (let i = 0; i < 500; i++) one.add(Buffer.from(`01more${i}`), answer, forever);
  t.ok(isKnown(COUNT - 2), 'there is room again');
  one.add(Buffer.from('01long'), Buffer.alloc(513), forever);
  t.equal(read(one, '01long'), '', 'longer answers are not remembered');
});
