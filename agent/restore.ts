/** `weft restore`: the store as it was when a backup was made, on this host. weftd must not run. */
import { mkdirSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { identityDirectory } from '../cluster/identity/files.ts';
import { restoredPorts } from '../ingress/claims.ts';
import { restoredClaims } from '../ipam/restore.ts';
import type { BackupEntry } from '../store/backup.ts';
import { copyInto, finishCopy } from '../store/copy.ts';
import { openLocalStore } from '../store/local.ts';
import { restoreEmbedded } from '../store/restore.ts';
import { removeMember } from '../store/supervised-etcd.ts';
import type { Config } from './config.ts';
import { openConfiguredEtcd } from './configured-store.ts';
import { nodeId } from './identity.ts';
import { CLAIMS } from './instance.ts';
import { embeddedPath, forgetCluster, memberFolder } from './node-store.ts';
import { rememberNetworks } from './networks.ts';
import type { NodeEntry } from './nodes.ts';

/** What this node remembers of a store and a cluster: of another one it would be wrong. Its id and its endpoints stay. */
const MEMORIES = ['cache/', 'cluster/', 'node/number', 'node/fenced'];

const NODES = 'nodes/';
/**
 * What is restored is another cluster than the one that hosts elsewhere may still be in, and this host is alone in it. Keys, join
 * token and authority are made anew: whoever had rights then, and may have lost them since, has none, and who is to be in it
 * joins it.
 */
const LEFT_BEHIND = ['gossip-keys', 'identity/', CLAIMS, NODES, 'node-numbers/'];

export interface Restored {
  /** The other nodes of then. */
  others: { id: string; name: string }[];
}

/**
 * Whatever the store was before, afterwards it is this host's own, from which a cluster is made anew: addresses of the old
 * one do not matter. Only an etcd of the user's is filled itself, and has to be empty. Throws WEFT-STORE-LOCKED while weftd
 * runs, WEFT-STORE-OCCUPIED. `id` is the backup's: a restore that was interrupted can be repeated. What this host hands out and
 * publishes stays its own, whatever the backup says of it.
 */
export async function restoreStore(config: Config, backup: readonly BackupEntry[], { id, clock, log }: { id: string; clock: Clock; log: Logger }): Promise<Restored> {
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const local = openLocalStore(join(config.dataDir, 'local.db'));
  try {
    const self = { id: nodeId(local), name: config.name ?? hostname() };
    const entries = restoredPorts(restoredClaims(backup.filter(({ key }) => !LEFT_BEHIND.some((prefix) => key.startsWith(prefix))), local, self), local, self.id);
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
      // Containers go on: what belongs to no network that is known at the start is taken off the kernel.
      rememberNetworks(local, entries);
    });
    await removeMember(memberFolder(config), clock);
    // This certificate is of another cluster.
    rmSync(identityDirectory(config.dataDir), { recursive: true, force: true });
    const nodes = backup.filter(({ key }) => key.startsWith(NODES)).map(({ value }) => JSON.parse(value) as NodeEntry);
    return { others: nodes.filter((node) => node.id !== self.id).map((node) => ({ id: node.id, name: node.name })).sort((a, b) => a.name.localeCompare(b.name)) };
  } finally {
    local.close();
  }
}
