/**
 * One etcd process that outlives weftd. It is known by its working directory, a folder that is its alone: no pid file can be
 * stale or missing, and no other process is taken for it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';

/** A process that is not our child has to be looked at. */
const LOOK_MS = 2_000;
const POLL_MS = 50;
/** etcd hands over the leadership and closes its files within about a second. */
const STOP_MS = 5000;
/** At a start a longer log is set aside; one before that is dropped. */
const LOG_BYTES = 8 * 1024 * 1024;

export interface EtcdProcess {
  readonly pid: number;
  /** It was there before. */
  readonly adopted: boolean;
  /** Resolves when it has gone, with what is known about it: 'exit code 1', 'SIGKILL'. */
  readonly gone: Promise<string>;
  /** SIGTERM, and SIGKILL if that is not heeded. */
  stop(): Promise<void>;
}

export interface ProcessOptions { folder: string; binary: string; args: readonly string[]; clock: Clock }

/** Name of the socket in its folder on which etcd answers without certificates; its form is etcd's (host:port). */
export const LOCAL_SOCKET = 'client:0';

/** Learners and their promotion came with 3.4. Throws WEFT-STORE-ETCD. */
export function checkEtcd(binary: string): void {
  const { error, stdout } = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  const [, version = '', major = '0', minor = '0'] = /^etcd Version: ((\d+)\.(\d+)\S*)/.exec(stdout ?? '') ?? [];
  if (error || Number(major) * 100 + Number(minor) < 304) {
    throw weftError('WEFT-STORE-ETCD', { detail: error ? error.message : version === '' ? `${binary} does not say its version` : `${binary} is ${version}` }, { cause: error });
  }
}

const isSame = (a: { dev: number; ino: number }, b: { dev: number; ino: number }): boolean => a.dev === b.dev && a.ino === b.ino;

/** Fields of /proc/PID/stat after the name, which may hold anything (proc(5)). */
const statFields = (pid: number): string[] => readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /s, '').split(' ');

/** Undefined for a process that is gone or a zombie. Pid and start time together are unique until the next boot. */
function startTime(pid: number): string | undefined {
  try {
    const fields = statFields(pid);
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** The etcd that runs in the folder, whoever started it. Compared by inode, since other hosts' namespaces may have equal paths. */
export function findEtcd(folder: string): { pid: number; args: string[] } | undefined {
  let here: { dev: number; ino: number };
  try {
    here = statSync(folder);
  } catch {
    return undefined;
  }
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (!isSame(statSync(`/proc/${name}/cwd`), here) || startTime(Number(name)) === undefined) continue;
      const [program = '', ...args] = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').slice(0, -1);
      if (/(^|\/)etcd$/.test(program)) return { pid: Number(name), args };
    } catch {
      // It ended while we looked, or is a kernel thread.
    }
  }
  return undefined;
}

async function end(pid: number, clock: Clock): Promise<void> {
  const since = startTime(pid);
  const isGone = (): boolean => since === undefined || startTime(pid) !== since;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (isGone()) return;
    process.kill(pid, signal);
    for (const until = clock.now() + STOP_MS; clock.now() < until && !isGone();) await sleep(clock, POLL_MS);
  }
}

function watchForeign(pid: number, clock: Clock): Promise<string> {
  const since = startTime(pid);
  return new Promise((resolve) => {
    const look = (): void => {
      if (since !== undefined && startTime(pid) === since) clock.setTimeout(look, LOOK_MS);
      else resolve('it ended while another weftd than the one that started it was there');
    };
    look();
  });
}

function launch({ folder, binary, args }: ProcessOptions): { pid: number; gone: Promise<string> } {
  // etcd does not take over a socket that a killed one left.
  rmSync(join(folder, LOCAL_SOCKET), { force: true });
  const logPath = join(folder, 'etcd.log');
  if ((statSync(logPath, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES) renameSync(logPath, `${logPath}.1`);
  const log = openSync(logPath, 'a', 0o600);
  try {
    // A session of its own and no pipe to us: it must not notice that weftd ends.
    const child = spawn(binary, args, { cwd: folder, detached: true, stdio: ['ignore', log, log] });
    child.unref();
    const gone = new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    return { pid: child.pid ?? 0, gone };
  } finally {
    closeSync(log);
  }
}

/**
 * Starts etcd in its folder, or takes over the one that runs there. One with other arguments is ended first: addresses
 * and files are given by them.
 */
export async function runEtcd(options: ProcessOptions): Promise<EtcdProcess> {
  const { folder, args, clock } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const found = findEtcd(folder);
  const isWanted = found !== undefined && found.args.join('\0') === args.join('\0');
  if (found && !isWanted) await end(found.pid, clock);
  const { pid, gone } = isWanted ? { pid: found.pid, gone: watchForeign(found.pid, clock) } : launch(options);
  return { pid, adopted: isWanted, gone, stop: () => end(pid, clock) };
}
