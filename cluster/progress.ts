/** How far each member is with each owner, as its digests say: a deletion that all of them have passed need not be kept. */
import type { Progress } from './owner.ts';
import type { Digest } from './wire.ts';

export interface ProgressBook {
  /** A digest of all that the member knows. */
  note(member: string, digest: Digest): void;
  /** The sequence up to which all of these know the owner's epoch; 0 while one of them has not been heard of. */
  passed(owner: string, epoch: number, members: readonly string[]): number;
  forget(member: string): void;
}

export function createProgressBook(): ProgressBook {
  const book = new Map<string, ReadonlyMap<string, Progress>>();
  return {
    note: (member, digest) => void book.set(member, new Map(Object.entries(digest))),
    passed: (owner, epoch, members) => {
      let least = Infinity;
      for (const member of members) {
        const [theirEpoch, upTo] = book.get(member)?.get(owner) ?? [0, 0];
        least = Math.min(least, theirEpoch > epoch ? Infinity : theirEpoch === epoch ? upTo : 0);
      }
      return least;
    },
    forget: (member) => void book.delete(member),
  };
}
