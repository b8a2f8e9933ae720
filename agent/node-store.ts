/**
 * This node's way to the cluster's state: the embedded store of a host alone, the cluster's etcd of which it may hold a copy,
 * or an etcd of the user's. Where it is stands in the node's own state, so that a start needs nobody.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../base/clock.ts';
import { hostPort } from '../base/ip.ts';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { identityDirectory, identityFiles } from '../cluster/identity/files.ts';
import { finishCopy } from '../store/copy.ts';
import { type EtcdStore, openEtcdStore } from '../store/etcd.ts';
import { checkEtcd } from '../store/etcd-process.ts';
import type { TlsFiles } from '../store/etcd-tls.ts';
import { createMovableStore, type MovableStore } from '../store/movable.ts';
import { syncFolder } from '../store/files.ts';
import { type EmbeddedStore, openSqliteStore } from '../store/sqlite.ts';
import type { LocalStore, Store } from '../store/store.ts';
import { hasMember, prepareMember, removeMember, superviseEtcd, type SupervisedEtcd } from '../store/supervised-etcd.ts';
import type { Config } from './config.ts';
import { openConfiguredEtcd } from './configured-store.ts';
import { nodeId } from './identity.ts';

/** Endpoints of the cluster's etcd; absent while this host is alone. */
const HOME = 'store/home';
/** Id of a move that was begun and is not tidied up after. */
const MOVE = 'store/move';
/** Set once this host's own store was opened. */
const OWN = 'store/own';
const READY_MS = 30_000;
const TIDY_MS = 1000;

export interface NodeStore {
  readonly store: Store;
  readonly kind: 'embedded' | 'cluster' | 'external';
  /** This host's own copy, where it holds one. */
  readonly etcd: SupervisedEtcd | undefined;
  /** The cluster's, with its members; undefined for the other kinds. */
  readonly cluster: EtcdStore | undefined;
  /**
   * Makes a cluster of one out of a host alone: starts etcd and moves the state there. Certificates have to be in place.
   * Idempotent, also after it was killed half way. Does nothing with an etcd of the user's.
   */
  startCluster(): Promise<void>;
  /** Holds a copy from now on; `peers` as Members.enter gave them. */
  startMember(peers: readonly { name: string; peerUrl: string }[]): void;
  /** Ends and removes this host's copy. */
  stopMember(): Promise<void>;
  /** Members have changed: where to ask from now on, also after a restart. */
  useEndpoints(endpoints: readonly string[]): void;
  /** Besides, until members are known again: where it might have moved to. */
  alsoAsk(endpoints: readonly string[]): void;
  /** etcd goes on. */
  close(): Promise<void>;
}

export interface NodeStoreOptions {
  config: Config;
  local: LocalStore;
  /** This node's certificate; read when the cluster's store is used. */
  tls: Required<TlsFiles>;
  clock: Clock;
  log: Logger;
  /** Default: the etcd in PATH. */
  binary?: string;
}

/** `weft join`: this host belongs to the cluster whose etcd is there. Before its store is opened for the first time. */
export const rememberCluster = (local: LocalStore, endpoints: readonly string[]): void => local.put(HOME, JSON.stringify(endpoints));

/** This host is alone again. */
export function forgetCluster(local: LocalStore): void {
  for (const key of [HOME, MOVE]) local.delete(key);
}

const homeOf = (local: LocalStore): string[] | undefined => {
  const text = local.get(HOME);
  return text === undefined ? undefined : JSON.parse(text) as string[];
};

export const inCluster = (local: LocalStore): boolean => homeOf(local) !== undefined;

export const clientUrlOf = ({ advertise, storePort }: Pick<Config, 'advertise' | 'storePort'>): string => `https://${hostPort(advertise, storePort)}`;
export const peerUrlOf = ({ advertise, storePeerPort }: Config): string => `https://${hostPort(advertise, storePeerPort)}`;
export const memberFolder = ({ dataDir }: Config): string => join(dataDir, 'etcd');

export const embeddedPath = ({ dataDir }: Config): string => join(dataDir, 'store.db');

/** This node's certificate, as etcd and its clients take it. */
export function tlsFiles({ dataDir }: Config): Required<TlsFiles> {
  const { authority, node } = identityFiles(identityDirectory(dataDir));
  return { ca: authority, cert: node, key: node };
}

/** Absent on a host whose identity is of before there was one. */
export function revokedFile({ dataDir }: Config): string | undefined {
  const { revoked } = identityFiles(identityDirectory(dataDir));
  return existsSync(revoked) ? revoked : undefined;
}

/** The embedded store is kept as it was, under a name by which nobody opens it any more. The log first: without its file it means nothing. */
function setAside(config: Config): void {
  const path = embeddedPath(config);
  if (!existsSync(path)) return;
  for (const suffix of ['-shm', '-wal', '']) {
    if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${join(config.dataDir, 'store-before-cluster.db')}${suffix}`);
  }
  syncFolder(config.dataDir);
}

export function openNodeStore({ config, local, tls, clock, log, binary = 'etcd' }: NodeStoreOptions): NodeStore {
  const folder = memberFolder(config);
  let etcd: SupervisedEtcd | undefined;
  let cluster: EtcdStore | undefined;
  let embedded: EmbeddedStore | undefined;
  let movable: MovableStore | undefined;
  let closed = false;
  let starting: Promise<void> | undefined;

  const supervise = (): SupervisedEtcd => superviseEtcd({
    folder, name: nodeId(local), clientUrl: clientUrlOf(config), peerUrl: peerUrlOf(config), tls, crl: revokedFile(config), clock, log: log.child({ part: 'etcd' }), binary,
  });
  /** This host's own copy first: it answers also after the host's address has changed or its certificate has run out. */
  const nearest = (endpoints: readonly string[]): readonly string[] => (etcd ? [etcd.localEndpoint, ...endpoints] : endpoints);
  const connect = (endpoints: readonly string[]): EtcdStore => openEtcdStore({ endpoints: nearest(endpoints), tls, clock, log });

  function openStore(): Store {
    if (config.etcd) return openConfiguredEtcd(config.etcd, { clock, log });
    const home = homeOf(local);
    if (home) {
      setAside(config);
      if (hasMember(folder)) etcd = supervise();
      return (cluster = connect(home));
    }
    const path = embeddedPath(config);
    // An empty file would be taken for a new store, and everything on this host for leftovers.
    if (local.get(OWN) !== undefined && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0) throw weftError('WEFT-STORE-LOST', { path });
    embedded = openSqliteStore(path, { clock, log });
    if (local.get(OWN) === undefined) local.put(OWN, 'true');
    return (movable = createMovableStore(embedded));
  }
  const store = openStore();

  async function move(from: EmbeddedStore, there: MovableStore): Promise<void> {
    checkEtcd(binary);
    const id = JSON.parse(local.get(MOVE) ?? JSON.stringify(randomUUID())) as string;
    local.put(MOVE, JSON.stringify(id));
    if (!hasMember(folder)) prepareMember(folder, { type: 'first' });
    etcd ??= supervise();
    await etcd.ready(READY_MS);
    const endpoints = [clientUrlOf(config)];
    const target = connect(endpoints);
    try {
      await there.moveTo(target, { id, commit: () => rememberCluster(local, endpoints) });
    } catch (error) {
      await target.close();
      throw error;
    }
    cluster = target;
    await from.close();
    setAside(config);
    void tidyUp(target);
    log.info({ endpoints }, 'the state has moved to this cluster\'s etcd');
  }

  /** Takes the mark of the copy off the new store, however long that does not answer. */
  async function tidyUp(target: EtcdStore): Promise<void> {
    while (!closed && local.get(MOVE) !== undefined) {
      try {
        await finishCopy(target);
        if (!closed) local.delete(MOVE);
      } catch {
        await sleep(clock, TIDY_MS);
      }
    }
  }
  if (cluster) void tidyUp(cluster);

  return {
    store,
    get kind() { return config.etcd ? 'external' : cluster ? 'cluster' : 'embedded'; },
    get etcd() { return etcd; },
    get cluster() { return cluster; },
    startCluster: async () => {
      if (cluster || !movable || !embedded) return;
      starting ??= move(embedded, movable).finally(() => { starting = undefined; });
      await starting;
    },
    startMember: (peers) => {
      if (!cluster) throw weftError('WEFT-STORE-ALONE', {});
      checkEtcd(binary);
      prepareMember(folder, { type: 'learner', peers });
      etcd = supervise();
    },
    stopMember: async () => {
      await etcd?.stop();
      etcd = undefined;
      await removeMember(folder, clock);
    },
    useEndpoints: (endpoints) => {
      if (JSON.stringify(homeOf(local)) !== JSON.stringify(endpoints)) rememberCluster(local, endpoints);
      cluster?.useEndpoints(nearest(endpoints));
    },
    alsoAsk: (endpoints) => cluster?.useEndpoints(nearest([...new Set([...homeOf(local) ?? [], ...endpoints])])),
    close: async () => {
      closed = true;
      etcd?.release();
      await store.close();
    },
  };
}
