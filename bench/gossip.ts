/**
 * A cluster of ours and one of memberlist in Go (Debian's package), of the same size, on the same machine, one after the
 * other: how long until all know all, until all know of a death, until all have a broadcast, and what it costs.
 *
 * `SIZES=10,50` measures only these sizes, `JOINS=2` fewer storms of joins. Then, on the virtual clock, clusters of a
 * thousand and more (`VIRTUAL=1000,5000`; empty: none). Half an hour in all.
 */
import { LAN, pushPullScale } from '../gossip/tuning.ts';
import { buildMemberlistPeer } from '../integration/memberlist-peer/build.ts';
import { must } from '../integration/lab/run.ts';
import { median, report } from './figures.ts';

const SIZES = (process.env['SIZES'] ?? '10,50,100,200').split(',').filter(Boolean).map(Number);
const JOINS = Number(process.env['JOINS'] ?? 8);
const VIRTUAL = (process.env['VIRTUAL'] ?? '1000,5000').split(',').filter(Boolean).map(Number);
/** Each death is known sooner or later by when the victim's turn to be probed comes: in a small cluster that differs most. */
const killsOf = (n: number): number => (n < 50 ? 7 : n < 100 ? 11 : n < 200 ? 9 : 5);
/** In so long each node has exactly one state exchange: these are a third of the bytes. */
const steadySecondsOf = (n: number): number => (LAN.pushPullInterval / 1_000) * pushPullScale(n);
const COMMAND = 'npm run bench -- gossip';

interface Run { join_s: number; broadcast_ms: number[]; detect_s: number[]; bytes_per_s: number; packets_per_s: number; cpu_percent: number; memory_kib: number }

/** In a network namespace of its own. */
async function alone<T>(command: readonly string[]): Promise<T> {
  const output = await must(['unshare', '--net', '--pid', '--fork', '--kill-child', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...command], { timeoutMs: 900_000 });
  return JSON.parse(output.trim().split('\n').at(-1)!) as T;
}

const peer = await buildMemberlistPeer();
const script = (name: string): string => new URL(name, import.meta.url).pathname;
const ours = <T>(...args: string[]): Promise<T> => alone<T>([process.execPath, script('./gossip-nodes.ts'), ...args]);
const figures: Record<string, number> = {};
const ratios: Record<string, number> = {};

for (const n of SIZES) {
  // With LZW, as it comes, 200 of memberlist's nodes never settle on two cores.
  const go = await alone<Run>([peer, `-n=${n}`, `-kills=${killsOf(n)}`, `-steady=${steadySecondsOf(n)}s`, ...(n >= 200 ? ['-compress=false'] : [])]);
  const weft = await ours<Run>(String(n), String(killsOf(n)), String(steadySecondsOf(n)));
  for (const [who, run] of [['go', go], ['weft', weft]] as const) {
    for (const [key, value] of Object.entries(run) as [string, number | number[]][]) figures[`n${n}_${who}_${key}`] = typeof value === 'number' ? value : median(value);
  }
  const ratio = (key: 'detect_s' | 'broadcast_ms' | 'bytes_per_s' | 'cpu_percent'): number => figures[`n${n}_weft_${key}`]! / figures[`n${n}_go_${key}`]!;
  ratios[`detect_n${n}_vs_go`] = ratio('detect_s');
  ratios[`broadcast_n${n}_vs_go`] = ratio('broadcast_ms');
  ratios[`bytes_n${n}_vs_go`] = ratio('bytes_per_s');
  ratios[`cpu_n${n}_vs_go`] = ratio('cpu_percent');
  console.log(`${n} nodes: Go ${JSON.stringify(go)}\n${' '.repeat(String(n).length)}        ours ${JSON.stringify(weft)}`);
}
for (const n of SIZES) {
  const joins = [figures[`n${n}_weft_join_s`]!];
  for (let i = 0; i < JOINS; i++) joins.push((await ours<Pick<Run, 'join_s'>>(String(n))).join_s);
  figures[`join_worst_n${n}_s`] = Math.max(...joins);
  figures[`join_median_n${n}_s`] = median(joins);
  console.log(`storms of ${n} joins: ${joins.map((each) => each.toFixed(2)).join(' ')} s; worst ${Math.max(...joins).toFixed(2)} s`);
}
for (const n of VIRTUAL) {
  const result = await alone<Record<string, number>>([process.execPath, '--max-old-space-size=12000', script('./gossip-virtual.ts'), String(n)]);
  for (const [key, value] of Object.entries(result)) figures[`virtual_n${n}_${key}`] = value;
  console.log(`${n} nodes on the virtual clock: ${JSON.stringify(result)}`);
}
console.log(`repeat with: ${COMMAND}`);
report('gossip', ratios, figures);
process.exit(0);
