/** `weft restore`: the store as it was when a backup was made, on this host. weftd must not run. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { identityDirectory } from '../cluster/identity/files.ts';
import type { BackupEntry } from '../store/backup.ts';
import { copyInto, finishCopy } from '../store/copy.ts';
import { openLocalStore } from '../store/local.ts';
import { restoreEmbedded } from '../store/restore.ts';
import { removeMember } from '../store/supervised-etcd.ts';
import type { Config } from './config.ts';
import { openConfiguredEtcd } from './configured-store.ts';
import { embeddedPath, forgetCluster, memberFolder } from './node-store.ts';

/** What this node remembers of a store: of another one it would be wrong. Its id and its endpoints stay. */
const MEMORIES = ['cache/', 'cluster/', 'node/number'];

/**
 * Whatever the store was before, afterwards it is this host's own, from which a cluster is made anew: addresses of the old
 * one do not matter. Only an etcd of the user's is filled itself, and has to be empty. Throws WEFT-STORE-LOCKED while weftd
 * runs, WEFT-STORE-OCCUPIED. `id` is the backup's: a restore that was interrupted can be repeated.
 */
export async function restoreStore(config: Config, entries: readonly BackupEntry[], { id, clock, log }: { id: string; clock: Clock; log: Logger }): Promise<void> {
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const local = openLocalStore(join(config.dataDir, 'local.db'));
  try {
    if (config.etcd) {
      const etcd = openConfiguredEtcd(config.etcd, { clock, log });
      try {
        await copyInto(etcd, entries, id);
        await finishCopy(etcd);
      } finally {
        await etcd.close();
      }
    } else {
      const stamp = new Date(clock.wallNow()).toISOString().replaceAll(/\D/g, '').slice(0, 17);
      await restoreEmbedded(embeddedPath(config), entries, { keptAt: join(config.dataDir, `store-before-restore-${stamp}.db`), clock, log });
    }
    local.transaction(() => {
      forgetCluster(local);
      for (const prefix of MEMORIES) for (const { key } of local.list(prefix)) local.delete(key);
    });
    await removeMember(memberFolder(config), clock);
    // The store's authority makes another certificate at the next start; this one may be of another cluster.
    rmSync(identityDirectory(config.dataDir), { recursive: true, force: true });
  } finally {
    local.close();
  }
}
