import { test } from 'tap';
import { silentLogger as log } from '../../base/log.ts';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { Endpoint } from '../../cnm/model.ts';
import { createStaleRemoval } from './stale.ts';

const HOUR_MS = 3_600_000;
const LIMIT_MS = 30_000;

function scene(...ages: number[]) {
  const virtual = new VirtualClock();
  let offset = 0;
  const clock = {
    now: () => virtual.now(), wallNow: () => virtual.wallNow() + offset,
    setTimeout: virtual.setTimeout.bind(virtual), clearTimeout: virtual.clearTimeout.bind(virtual),
  };
  const endpoint = (id: string, ageMs: number): Endpoint => ({ id, networkId: 'n', mac: '', ports: [], options: {}, createdAt: new Date(clock.wallNow() - ageMs).toISOString() });
  const present = ages.map((age, i) => endpoint(String(i), age));
  const remove = createStaleRemoval({
    endpoints: { list: () => [...present] }, isNative: (id) => id === 'native', revoke: () => Promise.resolve(), clock, log,
    controller: { deleteEndpoint: async (id) => void present.splice(present.findIndex((each) => each.id === id), 1) },
  });
  return {
    ids: () => present.map(({ id }) => id).join(), add: (id: string) => void present.push(endpoint(id, 0)), remove: () => remove(LIMIT_MS),
    advance: (ms: number) => virtual.advance(ms), setTimeOfDay: (by: number) => void (offset += by),
  };
}

void test('what an earlier weftd made is as old as its date says', async (t) => {
  const { ids, remove, advance } = scene(LIMIT_MS, LIMIT_MS - 1_000);
  await remove();
  t.equal(ids(), '1');
  await advance(1_000);
  await remove();
  t.equal(ids(), '');
});

void test('the time of day is set forward and backward in the middle of a start', async (t) => {
  for (const jump of [HOUR_MS, -HOUR_MS]) {
    const { ids, add, remove, advance, setTimeOfDay } = scene();
    await remove();
    add('starting');
    add('native');
    await remove();
    setTimeOfDay(jump);
    await advance(LIMIT_MS - 1_000);
    await remove();
    t.equal(ids(), 'starting,native');
    await advance(1_000);
    await remove();
    t.equal(ids(), 'native');
  }
});

void test('the time of day was set back while weftd was away', async (t) => {
  const { ids, remove, advance } = scene(-HOUR_MS);
  await remove();
  await advance(LIMIT_MS);
  await remove();
  t.equal(ids(), '');
});
