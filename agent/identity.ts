/** Who this node is: an id for ever, and a number that the cluster gave it. */
import { randomBytes } from 'node:crypto';
import { weftError } from '../base/errors.ts';
import type { LocalStore, Store } from '../store/store.ts';

const LAST_NUMBER = 65534;

/** 16 hex digits, for ever: what an earlier start had, else what the node joined with, else a new one. */
export function nodeId(local: LocalStore, joinedWith?: string): string {
  const known = local.get('node/id');
  if (known !== undefined) return known;
  const id = joinedWith ?? randomBytes(8).toString('hex');
  local.put('node/id', id);
  return id;
}

/** The number of an earlier start, without asking anybody. */
export const knownNumber = (local: LocalStore): number | undefined => {
  const text = local.get('node/number');
  return text === undefined ? undefined : Number(text);
};

/** Claims the lowest free number by compare-and-swap, or confirms the one this node has. */
export async function claimNumber(store: Store, local: LocalStore, id: string): Promise<number> {
  for (;;) {
    const { entries } = await store.range('node-numbers/');
    const mine = entries.find((entry) => entry.value === JSON.stringify(id));
    const taken = new Set(entries.map((entry) => Number(entry.key.slice('node-numbers/'.length))));
    let number = mine ? Number(mine.key.slice('node-numbers/'.length)) : 1;
    while (!mine && taken.has(number)) number++;
    if (number > LAST_NUMBER) throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of node numbers' });
    if (mine || (await store.txn([{ key: `node-numbers/${number}`, revision: 0 }], [{ put: `node-numbers/${number}`, value: JSON.stringify(id) }])).succeeded) {
      local.put('node/number', String(number));
      return number;
    }
  }
}

/** The cluster's gossip key (32 bytes): the store's, made there by whoever comes first; this node's copy while the store is away. */
export async function gossipKey(store: Store, local: LocalStore): Promise<Uint8Array> {
  const cached = local.get('cluster/gossip-key');
  try {
    let entry = await store.get('gossip-key');
    while (!entry) {
      await store.txn([{ key: 'gossip-key', revision: 0 }], [{ put: 'gossip-key', value: JSON.stringify(randomBytes(32).toString('base64')) }]);
      entry = await store.get('gossip-key');
    }
    if (entry.value !== cached) local.put('cluster/gossip-key', entry.value);
    return Buffer.from(JSON.parse(entry.value) as string, 'base64');
  } catch (error) {
    if (cached === undefined) throw error;
    return Buffer.from(JSON.parse(cached) as string, 'base64');
  }
}
