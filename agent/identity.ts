/** Who this node is: an id for ever, and a number that the cluster gave it. */
import { randomBytes } from 'node:crypto';
import { weftError } from '../base/errors.ts';
import type { LocalStore, Store } from '../store/store.ts';

/** 16 hex digits, for ever; made at the first start, or by who joins a cluster with it. */
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

/** Why this host may not be the node that its disk says it is: that node was taken out, or is another host. */
const FENCED = 'node/fenced';
type Fence = 'WEFT-NODE-REMOVED' | 'WEFT-NODE-CLONED';
export const markFenced = (local: LocalStore, code: Fence): void => local.put(FENCED, JSON.stringify(code));
export const unmarkFenced = (local: LocalStore): void => local.delete(FENCED);
export const fencedBy = (local: LocalStore): Fence | undefined => {
  const text = local.get(FENCED);
  return text === undefined ? undefined : JSON.parse(text) as Fence;
};

/** Each attempt that fails means that another node got that number. */
const ATTEMPTS = 64;

/** Claims the lowest free number by compare-and-swap, or confirms the one this node has. `last` is the highest there is. Throws WEFT-NODE-NUMBERS, WEFT-STORE-CONFLICT. */
export async function claimNumber(store: Store, local: LocalStore, id: string, last: number): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { entries } = await store.range('node-numbers/');
    const mine = entries.find((entry) => entry.value === JSON.stringify(id));
    const taken = new Set(entries.map((entry) => Number(entry.key.slice('node-numbers/'.length))));
    let number = mine ? Number(mine.key.slice('node-numbers/'.length)) : 1;
    while (!mine && taken.has(number)) number++;
    if (number > last) throw weftError('WEFT-NODE-NUMBERS', { last });
    if (mine || (await store.txn([{ key: `node-numbers/${number}`, revision: 0 }], [{ put: `node-numbers/${number}`, value: JSON.stringify(id) }])).succeeded) {
      local.put('node/number', String(number));
      return number;
    }
  }
  throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of node numbers' });
}

/** Nothing where it is another node's by now, as after this one was taken out. */
export async function releaseNumber(store: Store, id: string, number: number | undefined): Promise<void> {
  const entry = number === undefined ? undefined : await store.get(`node-numbers/${number}`);
  if (entry?.value === JSON.stringify(id)) await store.txn([{ key: entry.key, revision: entry.revision }], [{ delete: entry.key }]);
}
