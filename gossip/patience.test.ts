import { test } from 'tap';
import { createPatience } from './patience.ts';

void test('all of it until something has answered, then some round trips, and never too little', (t) => {
  const patience = createPatience(500);
  t.equal(patience.ms, 500);
  patience.answered(30);
  t.equal(patience.ms, 150);
  patience.answered(1);
  t.ok(patience.ms < 150 && patience.ms > 125, 'what was slow is forgotten slowly');
  for (let i = 0; i < 100; i++) patience.answered(1);
  t.equal(patience.ms, 100);
  patience.answered(400);
  t.equal(patience.ms, 500, 'never more than the most');
  t.end();
});

void test('where even the most is short, that is all', (t) => {
  const patience = createPatience(50);
  patience.answered(1);
  t.equal(patience.ms, 50);
  t.end();
});
