/**
 * What is too long for every day: more random lives, more hostile input, more trouble. About an hour and a half; each
 * line names what to run to see one of them alone. Ends with status 1 when one fails.
 *
 *   npm run test:long [-- PART OF A FILE NAME]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { bundle } from './bundle.ts';

const RUNS: [file: string, env: Record<string, string>][] = [
  ...Array.from({ length: 10 }, (_, i): [string, Record<string, string>] => ['cluster/random.test.ts', { SEEDS: `${i * 2_000 + 1}-${(i + 1) * 2_000}` }]),
  ['ipam/churn.test.ts', { OPERATIONS: '1000000', SEED: String(Date.now() % 1_000_000) }],
  ['gossip/fuzz.test.ts', { FUZZ_CASES: '5000000' }],
  ['dns/fuzz.test.ts', { FUZZ_CASES: '5000000' }],
  ['cluster/wire.test.ts', { FUZZ_CASES: '5000000' }],
  ['cluster/promises.test.ts', { RECORDS: '100000' }],
  ['store/faults.test.ts', { CHURN_S: '600' }],
  ['integration/cluster-faults.test.ts', { CHURN_S: '600', SEED: String(Date.now() % 1_000_000) }],
  ['integration/restarts.test.ts', { RESTARTS_S: '300', SEED: String(Date.now() % 1_000_000) }],
  ['integration/dns-race.test.ts', { STARTS: '200' }],
  ['integration/dns-kills.test.ts', { KILLS: '50', SEED: String(Date.now() % 1_000_000) }],
  ['integration/address-reuse.test.ts', { SANDBOXES: '5000', SEED: String(Date.now() % 1_000_000) }],
  ['integration/interop-trouble.test.ts', { TROUBLE_S: '600', SEED: String(Date.now() % 100_000) }],
];

const ROOT = resolve(import.meta.dirname, '..');
const [only = ''] = process.argv.slice(2);
let failed = 0;
await bundle();
for (const [file, env] of RUNS.filter(([each]) => each.includes(only))) {
  const start = Date.now();
  const settings = Object.entries(env).map(([name, value]) => `${name}=${value}`).join(' ');
  const child = spawn(process.execPath, [file], { cwd: ROOT, env: { ...process.env, ...env, NO_COLOR: '1' }, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = await once(child, 'close') as [number | null];
  if (code !== 0) failed++;
  console.log(`${code === 0 ? 'ok  ' : 'FAIL'}  ${settings} node ${file} (${((Date.now() - start) / 1000).toFixed(0)} s)`);
  if (code !== 0) console.log(output.slice(-5_000));
}
console.log(failed === 0 ? 'all passed' : `${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
