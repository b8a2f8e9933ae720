/**
 * What the size of a cluster costs each node: in the kernel, with real objects in namespaces, and on the virtual clock.
 *
 *   rules, routes, forwarding_entries, neighbours   what is in the fabric of one node, with ten containers on each of the others
 *   setup_ms           from an empty kernel to all of that
 *   repair_ms          comparing all of it with what should be, where nothing is wrong: done every 30 s
 *   newcomer_ms        one more node
 *   mend_ms            the routed tunnel was deleted, with all that was on it
 *   route_lookup_us    a question to the kernel that no node's rule answers: it passes all of them
 *   answered           of a client that comes through every other node from one and the same port: answers that came back to the
 *                      node they belong to, by connection tracking zones, marks and rules; all nodes but one are right
 *   answer_us          from such a node's packet to the answer, a program on the way
 *   kernel_kib         growth of the machine's Slab; others' is in there as well
 *   converge_ms, news_all_ms, packets_per_s, packet_bytes_per_s, memory_kib   on the virtual clock (limits-virtual.ts)
 *
 * `SIZES=10` measures only that size, `VIRTUAL=10` only that one on the virtual clock (empty: none). Ten minutes in all, eight of them
 * for 300 nodes on the virtual clock.
 */
import { report } from './figures.ts';
import { measureKernel } from './limits-kernel.ts';
import { measureVirtually } from './limits-virtual.ts';

const sizes = (text: string): number[] => text.split(',').filter(Boolean).map(Number);
const SIZES = sizes(process.env['SIZES'] ?? '10,100,300');
const VIRTUAL = sizes(process.env['VIRTUAL'] ?? SIZES.join(','));
const COMMAND = 'npm run bench -- limits';

const figures: Record<string, number> = {};
const ratios: Record<string, number> = {};
for (const nodes of SIZES) {
  const kernel = await measureKernel(nodes);
  console.log(`${nodes} nodes, kernel: ${JSON.stringify(kernel)}`);
  for (const [key, value] of Object.entries(kernel)) figures[`n${nodes}_${key}`] = value;
  ratios[`answered_n${nodes}`] = kernel['answered']! / (nodes - 1);
}
for (const nodes of VIRTUAL) {
  const virtual = await measureVirtually(nodes);
  console.log(`${nodes} nodes, virtual clock: ${JSON.stringify(virtual)}`);
  for (const [key, value] of Object.entries(virtual)) figures[`virtual_n${nodes}_${key}`] = value;
}
const [smallest, largest] = [SIZES[0], SIZES.at(-1)];
if (smallest !== largest) for (const key of ['route_lookup_us', 'answer_us']) ratios[`${key}_n${largest}_vs_n${smallest}`] = figures[`n${largest}_${key}`]! / figures[`n${smallest}_${key}`]!;
console.log(`repeat with: ${COMMAND}`);
report('limits', ratios, figures);
process.exit(0);
