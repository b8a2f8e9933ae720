/** One random life of a cluster: records come and go while nodes crash, return, leave, stand still, and the network misbehaves. */
import { shuffle } from '../base/random.ts';
import { addressOf } from '../gossip/world-for-tests.ts';
import { World, endpoint, memoryStore } from './world-for-tests.ts';

const CONVERGE_MS = 120_000;

/** Resolves with undefined when all views are equal and true in the end, else with what is wrong. */
export async function randomRun(seed: number): Promise<string | undefined> {
  const world = new World(seed);
  const { random, network, clock } = world;
  // Few nodes find most faults, and many nodes cost most time.
  const count = random.float() < 0.94 ? 2 + random.int(6) : 8 + random.int(random.float() < 0.1 ? 43 : 10);
  const networks = 1 + random.int(10);
  const all = Array.from({ length: count }, (_, i) => i + 1);
  const seeds = all.slice(0, 1 + random.int(3));
  const truth = new Map<number, Map<string, string>>();
  let serial = 0;

  const start = (i: number): void => {
    if (random.float() < 0.1) world.disks.set(i, memoryStore());
    const cluster = world.start(i, seeds);
    const own = truth.get(i) ?? new Map<string, string>();
    truth.set(i, own);
    // After a start a node says again what it still has, and that this is all.
    for (const key of own.keys()) if (random.float() < 0.3) own.delete(key);
    for (const [key, ip] of own) cluster.state.publish('endpoint', key, endpoint(key, ip, `net${Number(key.slice(1)) % networks}`));
    cluster.state.ready();
  };

  const write = (i: number): void => {
    const { state } = world.running.get(i)!;
    const own = truth.get(i)!;
    const [known] = shuffle([...own.keys()], random);
    if (known !== undefined && random.float() < 0.4) {
      own.delete(known);
      return state.withdraw('endpoint', known);
    }
    const key = known !== undefined && random.float() < 0.4 ? known : `e${serial++}`;
    const ip = `10.1.${random.int(256)}.${random.int(256)}`;
    own.set(key, ip);
    state.publish('endpoint', key, endpoint(key, ip, `net${Number(key.slice(1)) % networks}`));
  };

  const step = async (): Promise<void> => {
    const dice = random.float();
    const i = all[random.int(count)]!;
    if (dice < 0.6) {
      if (world.running.has(i)) for (let n = random.int(4); n >= 0; n--) write(i);
    } else if (dice < 0.7) {
      if (world.running.has(i)) await world.crash(i);
      else start(i);
    } else if (dice < 0.74 && world.running.has(i)) {
      const leaving = world.running.get(i)!.leave();
      world.running.delete(i);
      truth.delete(i);
      await clock.advance(1_100);
      await leaving;
    } else if (dice < 0.8) {
      network.loss = random.float() * 0.2;
      network.repeated = random.float() * 0.1;
      network.reordered = random.float() * 0.1;
    } else if (dice < 0.86) {
      network.heal();
      const [side, other] = [shuffle([...all], random).slice(0, 1 + random.int(count)), all];
      const apart = other.filter((each) => !side.includes(each));
      if (random.float() < 0.3) network.cutOneWay(side.map(addressOf), apart.map(addressOf));
      else network.cut(side.map(addressOf), apart.map(addressOf));
    } else if (dice < 0.92) network.heal();
    else if (world.running.has(i)) {
      const pause = world.pauses.get(i)!;
      pause.pause();
      await clock.advance(random.int(10_000));
      pause.resume();
    }
  };

  for (const i of all) {
    start(i);
    await clock.advance(random.int(500));
  }
  for (let n = 10 + random.int(30); n > 0; n--) {
    await step();
    await clock.advance(random.int(random.float() < 0.1 ? 20_000 : 1_000));
  }
  network.heal();
  Object.assign(network, { loss: 0, repeated: 0, reordered: 0 });
  for (const i of all) if (!world.running.has(i)) start(i);

  const expected = [...truth].flatMap(([i, own]) => [...own].map(([key, ip]) => `id${i}/${key}=${ip}`)).sort().join();
  const differing = (): number | undefined => all.find((i) => world.sees(i).join() !== expected);
  const took = await world.clock.advanceUntil(() => differing() === undefined, CONVERGE_MS);
  const wrong = differing();
  const result = wrong === undefined ? undefined : `seed ${seed}: after ${took} ms node ${wrong} of ${count} sees ${world.sees(wrong).join(' ')} instead of ${expected.replaceAll(',', ' ')}`;
  await world.stop();
  return result;
}
