import type { Compare, Lease, Write } from './store.ts';

/** etcd's default for --max-txn-ops; the embedded store keeps to it, so that what works on one works on the other. */
const MAX_OPERATIONS = 128;

const writtenKey = (write: Write): string => ('put' in write ? write.put : write.delete);

/** Throws RangeError for a transaction that etcd would refuse: too large, or writing a key twice. */
export function checkTxn(compares: readonly Compare[], writes: readonly Write[]): void {
  if (compares.length > MAX_OPERATIONS || writes.length > MAX_OPERATIONS) {
    throw new RangeError(`a transaction has at most ${MAX_OPERATIONS} compares and as many writes`);
  }
  if (new Set(writes.map(writtenKey)).size < writes.length) throw new RangeError('a transaction writes each key once');
}

/** What a write with a lease that is over is refused with. */
export const leaseEnded = ({ id }: Lease): Error => new Error(`lease ${id} has ended`);
