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

test('two thousand of all sandboxes together', async (t) => {
  const { memory, read } = scene();
  const [one, two] = [memory(), memory()];
  for (let i = 0; i < 2_048; i++) (i % 2 ? one : two).add(Buffer.from(`01${i}`), Buffer.from(`01${i}`), forever);
  t.equal(read(two, '010'), '010');
  two.add(Buffer.from('01more'), Buffer.from('01more'), forever);
  t.same([read(one, '011'), read(two, '010'), read(two, '01more')], ['', '', '01more'], 'then all begin anew');
  two.close();
  for (let i = 0; i < 2_048; i++) one.add(Buffer.from(`01${i}`), Buffer.from(`01${i}`), forever);
  t.equal(read(one, '010'), '010');
});
