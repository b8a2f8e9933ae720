/** What becomes of a backup's claims on addresses when it is made a host's store again. */
import type { LocalStore } from '../store/store.ts';
import { type BlockClaim, BLOCKS, POOLS, type PoolRecord, WANTS } from './claims.ts';
import type { Chooser } from './space.ts';

interface StoredValue { key: string; value: string }

/**
 * The node on whose host it is made the store goes on with what is on its disk, which is newer: the blocks that it hands out
 * are its own, whoever has them in the backup. Wishes of then are void. Other nodes' blocks stay theirs.
 */
export function restoredClaims(backup: readonly StoredValue[], local: LocalStore, node: { id: string; name: string }): StoredValue[] {
  const values = new Map(backup.filter(({ key }) => !key.startsWith(WANTS)).map(({ key, value }) => [key, value]));
  const poolIn = (text: string | undefined): string | undefined => (text === undefined ? undefined : (JSON.parse(text) as PoolRecord).id);
  for (const { key, value } of local.list('ipam/blocks/')) {
    const block = key.slice('ipam/blocks/'.length);
    const name = block.slice(0, block.indexOf('/'));
    const pool = poolIn(values.get(POOLS + name));
    // A pool that was made later, or anew, is not in the backup: nor is what was claimed of it.
    if (pool === undefined || pool !== poolIn(local.get(`ipam/pools/${name}`))) continue;
    const { chooser } = JSON.parse(value) as { chooser: Chooser };
    values.set(BLOCKS + block, JSON.stringify({ node: node.id, name: node.name, pool, chooser } satisfies BlockClaim));
  }
  return Array.from(values, ([key, value]) => ({ key, value }));
}
