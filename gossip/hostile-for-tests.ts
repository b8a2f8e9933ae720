/** Hostile input for parsers: noise, and real messages that were changed, cut, joined and repeated, which get further in. */
import { setTimeout as wait } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { seededRandom, type Random } from '../base/random.ts';

/** What lengths and counts are made of when they are to hurt. */
const EXTREMES = [[0xff], [0x7f, 0xff], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0, 0, 0, 0], [0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0xdd, 0xff, 0xff, 0xff, 0xff], [0xdb, 0x7f, 0xff, 0xff, 0xff], [0xcf]];
const MAX_NOISE = 200;
const LIMIT_MS = 10;
const WARM_UP = 2_000;

/** Yields one case after the other for ever; the same for the same seed. */
export function* hostileCases(samples: readonly Buffer[], seed: number): Generator<Buffer, never> {
  const random = seededRandom(seed);
  const sample = (): Buffer => samples[random.int(samples.length)]!;
  for (;;) {
    const dice = random.int(10);
    if (dice === 0) yield Buffer.from(random.bytes(random.int(MAX_NOISE)));
    else yield mutated(Buffer.from(dice === 1 ? spliced(sample(), sample(), random) : sample()), random);
  }
}

const spliced = (a: Buffer, b: Buffer, random: Random): Buffer => Buffer.concat([a.subarray(0, random.int(a.length + 1)), b.subarray(random.int(b.length + 1))]);

function mutated(data: Buffer, random: Random): Buffer {
  for (let changes = random.int(6); changes > 0 && data.length > 0; changes--) {
    const at = random.int(data.length);
    const dice = random.int(4);
    if (dice === 0) data[at]! ^= 1 << random.int(8);
    else if (dice === 1) data[at] = random.int(256);
    else if (dice === 2) data.set(EXTREMES[random.int(EXTREMES.length)]!.slice(0, data.length - at), at);
    else data.copyWithin(at, random.int(data.length), Math.min(data.length, random.int(data.length) + 16));
  }
  const cut = random.int(8);
  if (cut === 0) return data.subarray(0, random.int(data.length + 1));
  if (cut === 1) return data.subarray(random.int(data.length + 1));
  if (cut === 2) return Buffer.concat([data, data]);
  return data;
}

export interface FuzzResult {
  cases: number;
  /** Milliseconds of the processor (counted in ticks of some 4), not by the clock, which runs while others have it; of the slowest case, the best of several tries, since garbage is collected now and then. */
  slowestMs: number;
  /** By how much the heap grew between the first tenth of the cases and the end, garbage collected. */
  grownBytes: number;
}

/** Feeds `count` cases; what the target throws goes through, with the case in its message. `between` runs after each thousand. */
export async function fuzz(target: (data: Buffer) => void, { samples, seed, count, between }: { samples: readonly Buffer[]; seed: number; count: number; between?: () => Promise<void> }): Promise<FuzzResult> {
  const cases = hostileCases(samples, seed);
  let slowestMs = 0;
  let heapThen = 0;
  const timed = (data: Buffer): number => {
    const before = process.threadCpuUsage();
    target(data);
    const { user, system } = process.threadCpuUsage(before);
    return (user + system) / 1_000;
  };
  for (let i = 0; i < count; i++) {
    const data = cases.next().value;
    try {
      let took = timed(data);
      for (let again = 0; again < 4 && i > WARM_UP && took > LIMIT_MS / 2; again++) took = Math.min(took, timed(data));
      if (i > WARM_UP) slowestMs = Math.max(slowestMs, took);
    } catch (error) {
      throw new Error(`seed ${seed}, case ${i}: ${data.toString('hex')}`, { cause: error });
    }
    if (i % 1_000 === 999) await between?.();
    if (i === Math.floor(count / 10)) heapThen = await heapBytes();
  }
  return { cases: count, slowestMs, grownBytes: (await heapBytes()) - heapThen };
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What buffers hold is given back a moment after they are collected. */
async function heapBytes(): Promise<number> {
  for (let i = 0; i < 2; i++) {
    collectGarbage();
    await wait(20);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
