import { test } from 'tap';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { Workload } from '../../cnm/model.ts';
import { createStarting } from './starting.ts';

const ENDPOINT = 'e1';
const first: Workload = { endpointId: ENDPOINT, name: 'api', names: ['api'], service: 'api' };
const whole: Workload = { ...first, names: ['api', 'database'], ports: ['tcp/80'] };

function scene() {
  const clock = new VirtualClock();
  const known = new Map<string, Workload>();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<Workload | undefined>();
  const publisher = { workload: (each: Workload) => void known.set(each.endpointId, each), workloadOf: (id: string) => known.get(id) };
  const starting = createStarting({
    clock, publisher, isUp: () => true, claims: { held: () => undefined },
    workloads: {
      early: () => {
        asked.resolve();
        return answer.promise;
      },
    },
  });
  return { clock, publisher, starting, asked: asked.promise, answer: answer.resolve, known: () => known.get(ENDPOINT) };
}

void test('who joins is known by what Docker says at once', async (t) => {
  const { clock, starting, asked, answer, known } = scene();
  const introduced = starting.introduce(ENDPOINT, 'n1');
  await clock.advance(1_000);
  await asked;
  answer(first);
  await introduced;
  t.same(known(), first);
});

void test('an inspection that overtakes that is not undone by it: aliases and ports stay', async (t) => {
  const { clock, publisher, starting, asked, answer, known } = scene();
  const introduced = starting.introduce(ENDPOINT, 'n1');
  await clock.advance(1_000);
  await asked;
  publisher.workload(whole);
  answer(first);
  await introduced;
  t.same(known(), whole);
  t.equal(await starting.service({ id: ENDPOINT, networkId: 'n1', mac: '', ports: [], options: {}, createdAt: '' }, 'n1'), 'api', 'its service is told all the same');
  t.same(known(), whole);
});
