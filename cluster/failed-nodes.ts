/** What a node had goes at once when the node takes it back, and later when the node failed. */
import type { SoftState } from './state.ts';

/**
 * Records of a failed node count this much longer: its containers may well be running on, and a node that was only cut off
 * needs up to this long to be heard again (gossip goes on telling the dead for as long). With 10 s, packets were lost just
 * after the cut had ended.
 */
export const FAILED_NODE_GRACE_MS = 30_000;

/** Whether a node has failed, for those who are told that records went. Its records all go in one turn: the members are asked once for them. */
export function createFailureCheck(state: SoftState): (node: string) => boolean {
  let dead: Set<string> | undefined;
  return (node) => {
    if (!dead) {
      dead = new Set(state.members().flatMap(({ id, state: condition }) => (condition === 'dead' ? [id] : [])));
      queueMicrotask(() => (dead = undefined));
    }
    return dead.has(node);
  };
}
