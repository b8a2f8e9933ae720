/**
 * Runs inside a host of the lab and does for weftd what systemd's socket and service units do: holds the listening
 * sockets, hands them over (sd_listen_fds(3)), starts the program again when it ends.
 *
 *   supervisor.ts CONTROL LOG SOCKET,SOCKET,… -- COMMAND…
 *
 * Commands, one line each, on the control socket: start, stop (SIGTERM, and stays down), kill (SIGKILL, and stays
 * down), crash (SIGKILL, and is started again), pid. Each is answered with one line: ok, the pid, or what went wrong.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { check, sys } from '../../linux/ffi.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const RESTART_MS = 100;
/** Four times TimeoutStopSec of packaging/systemd/weft.service: a machine that stands still is not taken for a weftd that does. */
const STOP_TIMEOUT_MS = 20_000;

const [control = '', logPath = '', sockets = '', , ...command] = process.argv.slice(2);

function listenUnix(path: string): number {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, 2);
  const fd = check('open a socket', sys.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check(`bind ${path}`, sys.bind(fd, address, address.length));
  chmodSync(path, 0o600);
  check(`listen at ${path}`, sys.listen(fd, 128));
  return fd;
}

const fds = sockets === '' ? [] : sockets.split(',').map(listenUnix);
const log = openSync(logPath, 'a', 0o600);
let child: ChildProcess | undefined;
let wanted = false;

function start(): void {
  wanted = true;
  if (child) return;
  // The pid is known only inside: LISTEN_PID is set there.
  const started = spawn('/bin/sh', ['-c', 'export LISTEN_PID=$$; exec "$@"', 'sh', ...command], {
    stdio: ['ignore', log, log, ...fds], env: { ...process.env, LISTEN_FDS: String(fds.length) },
  });
  child = started;
  started.on('exit', () => {
    child = undefined;
    if (wanted) setTimeout(() => wanted && start(), RESTART_MS);
  });
}

async function end(signal: NodeJS.Signals, again: boolean): Promise<string> {
  wanted = again;
  const running = child;
  if (!running) return 'ok';
  const gone = new Promise((resolve) => running.once('exit', resolve));
  running.kill(signal);
  let answer = 'ok';
  const timer = setTimeout(() => {
    answer = `not ended ${STOP_TIMEOUT_MS / 1000} s after ${signal}; its threads: ${threads(running.pid!)}`;
    running.kill('SIGKILL');
  }, STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
  return answer;
}

/** Their names, and the numbers of the system calls that they wait in. */
const threads = (pid: number): string => spawnSync('grep', ['-rs', '.', '--include=comm', '--include=syscall', `/proc/${pid}/task`], { encoding: 'utf8' }).stdout.replaceAll('\n', ' ');

const ACTIONS: Record<string, () => string | number | Promise<string>> = {
  start: () => (start(), 'ok'), stop: () => end('SIGTERM', false), kill: () => end('SIGKILL', false), crash: () => end('SIGKILL', true), pid: () => child?.pid ?? 0,
};

rmSync(control, { force: true });
createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (line) => {
    void Promise.resolve(ACTIONS[line.toString().trim()]!()).then((answer) => socket.end(`${answer}\n`));
  });
}).listen(control);
