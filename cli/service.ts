/** Starting and stopping weftd: by systemd where it runs the host, else as a process of our own. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../agent/config.ts';
import { WEFTD_ENVIRONMENT, WEFTD_FLAGS } from './footprint.ts';

const UNITS = ['weft-control.socket', 'weft-plugins.socket', 'weft.service'];
const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 10_000;

const systemd = (): boolean => existsSync('/run/systemd/system') && existsSync('/lib/systemd/system/weft.service');

/** weftd lies beside weft, bundled or not. */
function weftd(): string[] {
  const here = dirname(process.argv[1]!);
  const bundled = join(here, 'weftd.cjs');
  return [process.execPath, ...WEFTD_FLAGS, existsSync(bundled) ? bundled : join(here, '..', 'agent', 'main.ts')];
}

function pidOf(config: Config): number | undefined {
  try {
    const pid = Number(readFileSync(join(config.runDir, 'weftd.pid'), 'utf8'));
    process.kill(pid, 0);
    return pid;
  } catch {
    return undefined;
  }
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await wait(50)) if (condition()) return true;
  return condition();
}

/** Resolves when the control socket is there. */
export async function startAgent(config: Config, configPath: string): Promise<void> {
  if (systemd()) {
    spawnSync('systemctl', ['enable', '--now', ...UNITS], { stdio: 'inherit' });
  } else if (pidOf(config) === undefined) {
    mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
    const log = openSync(join(config.dataDir, 'weftd.log'), 'a', 0o600);
    const [command, ...args] = weftd();
    spawn(command!, [...args, '--config', configPath], { detached: true, stdio: ['ignore', log, log], env: { ...process.env, ...WEFTD_ENVIRONMENT } }).unref();
  }
  if (!await until(() => existsSync(join(config.runDir, 'weft.sock')), START_TIMEOUT_MS)) throw new Error('weftd did not start; see its log');
}

export async function stopAgent(config: Config): Promise<void> {
  if (systemd()) spawnSync('systemctl', ['disable', '--now', ...UNITS], { stdio: 'inherit' });
  const pid = pidOf(config);
  if (pid === undefined) return;
  process.kill(pid, 'SIGTERM');
  if (!await until(() => pidOf(config) === undefined, STOP_TIMEOUT_MS)) process.kill(pid, 'SIGKILL');
}

/** Takes everything of Weft off this host; weftd does it, since it knows the kernel and Docker. Returns the exit code. */
export function purge(configPath: string): number {
  const [command, ...args] = weftd();
  return spawnSync(command!, [...args, '--config', configPath, '--purge'], { stdio: 'inherit' }).status ?? 1;
}
