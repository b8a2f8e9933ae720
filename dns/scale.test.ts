/** Many sandboxes and many names: what one more costs. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { createNetns, deleteNetns } from '../linux/netns.ts';
import { findAddresses } from './lookup.ts';
import { createOwnRecords } from './own-records.ts';
import { createResolver } from './resolver.ts';
import { createNameTable } from './zone.ts';

const SANDBOXES = 500;
const BYTES_EACH = 32 * 1024;
/** Of a tenth of them: the others may have had to wait for whatever else the machine does. */
const HOOK_UP_MS = 1;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
async function memory(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

test('a sandbox costs its process little memory and time', async (t) => {
  const paths = Array.from({ length: SANDBOXES + 1 }, (_, i) => `/run/netns/weft-s-${process.pid}-${i}`);
  const resolver = createResolver({ names: createNameTable(), records: createOwnRecords(), log: silentLogger, clock: systemClock, random: systemRandom, ttl: 5, batches: true });
  t.teardown(async () => {
    resolver.close();
    await new Promise((resolve) => setTimeout(resolve, 100));
    paths.forEach(deleteNetns);
  });
  for (const path of paths) createNetns(path).close();
  const attach = (path: string): Promise<void> => resolver.attach({ path, networks: [{ id: 'n', name: 'web', subnets: ['10.192.4.0/24'], shared: false, internal: false }], elsewhere: false });
  // Whatever is made once.
  await attach(paths[0]!);
  const before = await memory();
  const took: number[] = [];
  for (const path of paths.slice(1)) {
    const start = performance.now();
    await attach(path);
    took.push(performance.now() - start);
  }
  const each = (await memory() - before) / SANDBOXES;
  t.ok(each <= BYTES_EACH, `${Math.round(each)} bytes for each`);
  const [quick, middle] = [10, 2].map((part) => took.toSorted((a, b) => a - b)[SANDBOXES / part]!.toFixed(2));
  t.ok(Number(quick) <= HOOK_UP_MS, `${quick} ms for a tenth of them, ${middle} ms for half`);
});

test('a name is found as fast among a hundred thousand as among a hundred', async (t) => {
  const networks = [{ id: 'n', name: 'web', suffix: 'web' }];
  /** Nanoseconds for a lookup, the best of some tries. */
  const cost = (count: number): number => {
    const table = createNameTable();
    for (let i = 0; i < count; i++) table.put({ networkId: 'n', networkName: 'web', endpointId: `e${i}`, ip: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, name: `c${i}`, names: [`c${i}`], service: `c${i}` });
    let best = Infinity;
    for (let round = 0; round < 10; round++) {
      const start = performance.now();
      for (let i = 0; i < 2_000; i++) findAddresses(table, networks, `c${(i * 7_919) % 100}`, [4]);
      best = Math.min(best, (performance.now() - start) / 2_000 * 1e6);
    }
    return best;
  };
  cost(100);
  const [few, many] = [cost(100), cost(100_000)];
  t.ok(many < 4 * few + 500, `${few.toFixed(0)} ns among a hundred, ${many.toFixed(0)} among a hundred thousand`);
});
