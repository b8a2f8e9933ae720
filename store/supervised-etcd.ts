/**
 * A cluster's store on this host: the distribution's etcd as a process beside weftd. It outlives weftd, which takes it over
 * again, and is started anew when it ends. Clients and peers have to show a certificate of the cluster's authority.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { createGateway, type Gateway } from './etcd-gateway.ts';
import { type EtcdProcess, findEtcd, LOCAL_SOCKET, runEtcd } from './etcd-process.ts';
import type { TlsFiles } from './etcd-tls.ts';
import { writeDurably } from './files.ts';

const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 15_000;
/** Whoever lived for so long did not fail at its start. */
const SETTLED_MS = 10_000;
const DEADLINE_MS = 3000;

/** How a member came to be; needed until its folder holds data. */
export type Birth =
  | { type: 'first' }
  /** Added to the cluster as a learner before; `peers` are all members, this one included. */
  | { type: 'learner'; peers: readonly { name: string; peerUrl: string }[] };

export interface SupervisedOptions {
  /** Its alone. */
  folder: string;
  /** Unique among the members, and the same for ever. */
  name: string;
  /** 'https://address:port' of this host, for clients and for peers. The certificate has to name the address. */
  clientUrl: string;
  peerUrl: string;
  /** One certificate for both roles: usable for servers and clients, without a common name. Renewed files are taken up. */
  tls: Required<TlsFiles>;
  /** Path of a list of revoked certificates (PEM); read again at every handshake, and without it none succeeds. */
  crl?: string | undefined;
  clock: Clock;
  log: Logger;
  /** Default: the one in PATH. */
  binary?: string;
}

export interface EtcdHealth {
  running: boolean;
  /** It has a leader, so a majority is there. */
  hasLeader: boolean;
  isLearner: boolean;
  /** Bytes on disk. */
  size: number;
  /** In words: why it does not run, or what it complains about (a full disk or quota, a damaged copy). */
  problem?: string;
}

export interface SupervisedEtcd {
  /** Answers without certificates, to root of this host only, also while the network is away. */
  readonly localEndpoint: string;
  health(): Promise<EtcdHealth>;
  /** Resolves when it serves reads and writes. Rejects with WEFT-STORE-UNREACHABLE after `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>;
  /** Leaves etcd running: weftd itself stops. */
  release(): void;
  /** Ends etcd. */
  stop(): Promise<void>;
}

/** Whether a member was made in this folder. */
export const hasMember = (folder: string): boolean => existsSync(join(folder, 'member.json'));

/**
 * Remembers how the member in this folder begins. Throws RangeError where there is one already: its log must not be
 * mixed with another's.
 */
export function prepareMember(folder: string, birth: Birth): void {
  if (hasMember(folder)) throw new RangeError(`${folder} holds a member already`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  rmSync(join(folder, 'data'), { recursive: true, force: true });
  writeDurably(join(folder, 'member.json'), JSON.stringify(birth));
}

/** Ends what runs there and removes its data. A member that is gone from the cluster must never come back with its old log. */
export async function removeMember(folder: string, clock: Clock): Promise<void> {
  const found = findEtcd(folder);
  if (found) await runEtcd({ folder, binary: 'etcd', args: found.args, clock }).then((process) => process.stop());
  rmSync(folder, { recursive: true, force: true });
}

function argumentsOf({ folder, name, clientUrl, peerUrl, tls, crl }: SupervisedOptions): string[] {
  const birth = JSON.parse(readFileSync(join(folder, 'member.json'), 'utf8')) as Birth;
  const cluster = birth.type === 'first' ? [{ name, peerUrl }] : birth.peers;
  return [
    '--name', name, '--data-dir', 'data',
    '--listen-client-urls', `${clientUrl},unix://${LOCAL_SOCKET}`, '--advertise-client-urls', clientUrl,
    '--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl,
    // Ignored as soon as there is data.
    '--initial-cluster', cluster.map((peer) => `${peer.name}=${peer.peerUrl}`).join(','),
    '--initial-cluster-state', birth.type === 'first' ? 'new' : 'existing', '--initial-cluster-token', 'weft',
    '--client-cert-auth', '--trusted-ca-file', tls.ca, '--cert-file', tls.cert, '--key-file', tls.key,
    '--peer-client-cert-auth', '--peer-trusted-ca-file', tls.ca, '--peer-cert-file', tls.cert, '--peer-key-file', tls.key,
    // A host with several addresses connects from another one than its certificate names. Whose it is the authority has said.
    '--experimental-peer-skip-client-san-verification',
    ...(crl === undefined ? [] : ['--client-crl-file', crl, '--peer-crl-file', crl]),
    // A member that comes back does not unseat the leader.
    '--pre-vote',
    // Watches that were away for longer begin with a snapshot.
    '--auto-compaction-mode', 'periodic', '--auto-compaction-retention', '1h',
    // Entries kept in memory for members that lag; etcd's default holds ten times as many.
    '--snapshot-count', '10000',
    '--logger', 'zap', '--log-outputs', 'stderr', '--log-level', 'warn',
  ];
}

/** Starts or takes over the member that was prepared in the folder. */
export function superviseEtcd(options: SupervisedOptions): SupervisedEtcd {
  const { folder, clock, log, binary = 'etcd' } = options;
  const localEndpoint = `unix://${folder}/${LOCAL_SOCKET}`;
  const gateway: Gateway = createGateway({ endpoints: [localEndpoint], clock, log, deadlineMs: DEADLINE_MS });
  let starting: Promise<EtcdProcess> | undefined;
  let running: EtcdProcess | undefined;
  let problem: string | undefined;
  let over = false;
  let wake = (): void => {};

  const pause = (ms: number): Promise<void> => new Promise((resolve) => {
    const timer = clock.setTimeout(resolve, ms);
    wake = () => {
      clock.clearTimeout(timer);
      resolve();
    };
  });

  async function supervise(): Promise<void> {
    for (let pauseMs = FIRST_PAUSE_MS; !over; pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)) {
      const started = clock.now();
      try {
        starting = runEtcd({ folder, binary, args: argumentsOf(options), clock });
        running = await starting;
        log.info({ pid: running.pid, adopted: running.adopted }, 'etcd runs');
        problem = undefined;
        problem = `etcd ended (${await running.gone}); its log is ${join(folder, 'etcd.log')}${lastComplaint(folder)}`;
      } catch (error) {
        problem = `etcd cannot be started: ${errorText(error)}`;
      }
      running = undefined;
      if (over) return;
      log.error({ detail: problem }, 'etcd is started again');
      if (clock.now() - started > SETTLED_MS) pauseMs = FIRST_PAUSE_MS;
      await pause(pauseMs);
    }
  }
  const supervision = supervise();

  async function health(): Promise<EtcdHealth> {
    if (!running) return { running: false, hasLeader: false, isLearner: false, size: 0, ...(problem !== undefined && { problem }) };
    try {
      const { leader, isLearner = false, dbSize = '0', errors = [] } = await gateway.call('/v3/maintenance/status', {}, { safe: true }) as
        { leader?: string; isLearner?: boolean; dbSize?: string; errors?: string[] };
      return { running: true, hasLeader: leader !== undefined, isLearner, size: Number(dbSize), ...(errors.length > 0 && { problem: errors.join('; ') }) };
    } catch (error) {
      return { running: true, hasLeader: false, isLearner: false, size: 0, problem: `etcd does not answer: ${errorText(error)}` };
    }
  }

  async function ready(timeoutMs: number): Promise<void> {
    for (const end = clock.now() + timeoutMs; ;) {
      try {
        // One of other arguments, which is on its way out, would answer as well.
        if (!running) throw new Error('etcd is being started');
        await gateway.call('/v3/kv/range', { key: 'AA==' }, { safe: true });
        return;
      } catch (error) {
        if (over || clock.now() >= end) throw weftError('WEFT-STORE-UNREACHABLE', { store: localEndpoint, detail: problem ?? errorText(error) }, { cause: error });
      }
      await sleep(clock, 100);
    }
  }

  function finish(): void {
    over = true;
    wake();
    gateway.close();
  }

  return {
    localEndpoint,
    health,
    ready,
    release: finish,
    stop: async () => {
      finish();
      await (await starting?.catch(() => undefined))?.stop();
      await supervision;
    },
  };
}

/** The last thing that etcd called an error. Its log is one JSON object a line, panics excepted. */
function lastComplaint(folder: string): string {
  const lines = readFileSync(join(folder, 'etcd.log'), 'utf8').slice(-20_000).split('\n');
  const errors = lines.flatMap((line) => {
    try {
      const { level = '', msg = '', error = '' } = JSON.parse(line) as { level?: string; msg?: string; error?: string };
      return /^(error|dpanic|panic|fatal)$/.test(level) ? [[msg, error].filter(Boolean).join(': ')] : [];
    } catch {
      return [];
    }
  });
  return errors.length > 0 ? `, which ends with: ${errors.at(-1)}` : '';
}
