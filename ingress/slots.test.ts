import { test } from 'tap';
import fc from 'fast-check';
import { SLOTS, assignSlots } from './slots.ts';

const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'), { minLength: 1 });

test('slots are shared evenly, whatever came before', (t) => {
  fc.assert(fc.property(fc.array(names, { minLength: 1, maxLength: 6 }), (history) => {
    let slots: string[] = [];
    for (const backends of history) {
      slots = assignSlots(slots, backends);
      const counts = backends.map((backend) => slots.filter((slot) => slot === backend).length);
      if (slots.length !== SLOTS || counts.reduce((a, b) => a + b) !== SLOTS) return false;
      if (Math.max(...counts) - Math.min(...counts) > 1) return false;
    }
    return true;
  }));
  t.end();
});

test('a backend that leaves moves only its own slots, one that comes takes only its share', (t) => {
  const three = assignSlots([], ['a', 'b', 'c']);
  const two = assignSlots(three, ['a', 'c']);
  t.notOk(three.some((slot, i) => slot !== 'b' && two[i] !== slot), 'the others stay where they were');
  const back = assignSlots(two, ['a', 'b', 'c']);
  t.equal(back.filter((slot, i) => slot !== two[i]).length, SLOTS / 3);
  t.same(assignSlots(back, ['a', 'b', 'c']), back, 'nothing to do moves nothing');
  t.same(assignSlots(back, []), []);
  t.end();
});
