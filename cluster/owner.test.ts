/** Two who know an owner in part: whatever was lost, repeated and reordered, a digest and its answer make them equal. */
import fc from 'fast-check';
import { test } from 'tap';
import { accept, emptyOwner, forgetDeletions, pack, shipmentsFor, type OwnerState, type Shipment } from './owner.ts';
import type { NameRecord } from './state.ts';

const value = (text: string): NameRecord => ({ networkId: 'n', networkName: 'web', endpointId: text, ip: '10.0.0.1', name: text, names: [], service: text });

/** An owner that writes: what it would send for each change. */
function writer(epoch: number) {
  const state = emptyOwner(epoch);
  const write = (key: string, text: string | null, now = 0): Shipment => {
    const sequence = ++state.upTo;
    state.records.put({ table: 'name', key, epoch, sequence, value: text === null ? null : value(text), ...(text === null && { deletedAt: now }) });
    return shipmentsFor('o', state, [epoch, sequence - 1]).at(-1)!;
  };
  const complete = (): Shipment => {
    state.completeAt = ++state.upTo;
    return shipmentsFor('o', state, [epoch, state.completeAt - 1]).at(-1)!;
  };
  return { state, write, complete };
}

const existing = ({ records }: OwnerState): string[] => [...records.values()].flatMap((record) => (record.value ? [`${record.key}=${(record.value as NameRecord).name}`] : [])).sort();
const catchUp = (to: OwnerState, from: OwnerState, limit: number): void => {
  for (const pieces of pack(shipmentsFor('o', from, [to.epoch, to.upTo]), limit)) for (const piece of pieces) accept(to, piece, 0);
};

void test('any part of any history, then one repair', async (t) => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fc.constant('put' as const), fc.nat(6), fc.nat(100)) },
    { weight: 3, arbitrary: fc.tuple(fc.constant('delete' as const), fc.nat(6), fc.nat(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('forget' as const), fc.nat(40), fc.nat(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('sync' as const), fc.nat(1), fc.nat(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('restart' as const), fc.nat(0), fc.nat(0)) },
  );
  fc.assert(fc.property(fc.array(fc.tuple(step, fc.nat(3)), { maxLength: 40 }), fc.integer({ min: 1, max: 400 }), (history, limit) => {
    let epoch = 1;
    let owner = writer(epoch);
    const reader = emptyOwner();
    const bystander = emptyOwner();
    const inFlight: Shipment[] = [];
    for (const [[kind, key, text], fate] of history) {
      if (kind === 'forget' && key % 2 === 0) forgetDeletions(owner.state, { passed: key, now: 0, maxAge: 1, maxCount: 2 });
      else if (kind === 'forget') {
        const all = [owner.state, reader, bystander];
        const passed = Math.min(...all.map((each) => (each.epoch === epoch ? each.upTo : 0)));
        for (const each of all) forgetDeletions(each, { passed, now: 0, maxAge: 1, maxCount: 100 });
      }
      else if (kind === 'sync') catchUp(bystander, key % 2 === 0 ? reader : owner.state, limit);
      else if (kind === 'restart') owner = writer(++epoch);
      else inFlight.push(owner.write(`k${key}`, kind === 'put' ? `v${text}` : null));
      // Lost, delivered, delivered late and out of order, delivered twice.
      if (fate === 1) inFlight.splice(0).forEach((shipment) => accept(reader, shipment, 0));
      else if (fate === 2) inFlight.splice(0).reverse().forEach((shipment) => accept(reader, shipment, 0));
      else if (fate === 3) [...inFlight, ...inFlight].forEach((shipment) => accept(reader, shipment, 0));
      else inFlight.length = 0;
    }
    owner.complete();
    catchUp(reader, owner.state, limit);
    const third = emptyOwner();
    catchUp(third, reader, limit);
    catchUp(bystander, reader, limit);
    if (shipmentsFor('o', owner.state, [reader.epoch, reader.upTo]).length > 0) throw new Error('not all was taken in');
    for (const each of [reader, third, bystander]) if (existing(each).join() !== existing(owner.state).join()) throw new Error(`${existing(each).join()} instead of ${existing(owner.state).join()}`);
  }), { numRuns: 4_000 });
  t.pass('4000 histories');
});

void test('a word that comes after the deletion it precedes was forgotten', async (t) => {
  const reader = emptyOwner();
  const { state, write } = writer(1);
  const late = write('a', '1');
  write('a', null);
  write('b', '1');
  catchUp(reader, state, 1000);
  forgetDeletions(reader, { passed: 3, now: 0, maxAge: 1, maxCount: 10 });
  t.same(accept(reader, late, 0), []);
  t.same(existing(reader), ['b=1']);
});

void test('a restarted owner', async (t) => {
  const reader = emptyOwner();
  const before = writer(1);
  for (const shipment of [before.write('a', '1'), before.write('b', '1'), before.complete()]) accept(reader, shipment, 0);
  const after = writer(2);
  accept(reader, after.write('a', '2'), 0);
  t.same(existing(reader), ['a=2', 'b=1'], 'its former records stay until it has said everything');
  t.same(accept(reader, after.complete(), 0).map(({ before: gone }) => gone?.key), ['b']);
  t.same(existing(reader), ['a=2']);
  t.same(accept(reader, before.write('c', '1'), 0), [], 'its former self is not heard');
});

void test('long shipments are cut, short ones go together', async (t) => {
  const { state, write } = writer(1);
  for (let i = 0; i < 100; i++) write(`key ${i}`, 'x'.repeat(100));
  const messages = [...pack(shipmentsFor('o', state), 10_000)];
  t.ok(messages.length > 3);
  t.equal(messages.flat().flatMap(({ records }) => records).length, 100);
  const reader = emptyOwner();
  for (const [piece] of messages) {
    t.equal(piece!.from, reader.upTo, 'a piece does not claim what is in another');
    accept(reader, piece!, 0);
    t.equal(reader.upTo, piece!.upTo);
    t.ok(JSON.stringify(piece).length < 10_500);
  }
  t.equal([...pack([1, 2, 3].map((i) => (shipmentsFor(`o${i}`, writerWithOne().state)[0]!)), 10_000)].length, 1);
});

function writerWithOne() {
  const one = writer(1);
  one.write('a', 'b');
  return one;
}
