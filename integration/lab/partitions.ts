/**
 * Cuts between machines of a lab, in its router: of both directions or one, of all packets or a share of them. Unlike a
 * cable that is pulled, nobody is told: packets vanish.
 */
import type { Host } from './host.ts';
import type { Lab } from './lab.ts';
import { must } from './run.ts';

const TABLE = 'inet partitions';

/** From one machine to another. `loss`: the share of packets that vanish, 0 to 1; default all. */
export interface Cut { from: Host; to: Host; loss?: number }

export interface Partitions {
  /** Cuts until the returned function is called. Cuts add up. */
  cut(cuts: readonly Cut[]): Promise<() => Promise<void>>;
}

export async function createPartitions(lab: Lab): Promise<Partitions> {
  const nft = (text: string): Promise<string> => must(['ip', 'netns', 'exec', lab.namespace('router'), 'nft', '-f', '-'], { input: text });
  await nft(`add table ${TABLE}\nadd chain ${TABLE} forward { type filter hook forward priority 0; }`);
  const present = new Set<readonly Cut[]>();
  // One after the other: each writes the whole chain.
  let last: Promise<unknown> = Promise.resolve();
  const write = (): Promise<void> => {
    const written = last.then(async () => {
      const rules = [...present].flat().map(({ from, to, loss = 1 }) =>
        `add rule ${TABLE} forward ip saddr ${from.address} ip daddr ${to.address} ${loss < 1 ? `numgen random mod 100 < ${Math.round(100 * loss)} ` : ''}drop`);
      await nft([`flush chain ${TABLE} forward`, ...rules].join('\n'));
    });
    last = written.catch(() => undefined);
    return written;
  };
  return {
    cut: async (cuts) => {
      present.add(cuts);
      await write();
      return async () => {
        present.delete(cuts);
        await write();
      };
    },
  };
}

export const bothWays = (a: Host, b: Host, loss?: number): Cut[] => [[a, b], [b, a]].map(([from, to]) => ({ from: from!, to: to!, ...(loss !== undefined && { loss }) }));
