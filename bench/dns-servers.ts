/** Other resolvers, each in the same namespace with the same names, one at a time; and the client that loads them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must, until } from '../integration/lab/run.ts';

/** Where a resolver is asked: a namespace as a path, and an address in it. */
export interface Place { netns: string; address: string }

export interface Costs {
  /** Queries that were answered per second of the server's CPU. */
  perCpuSecond: number;
  /** Queries that were answered per second. */
  perSecond: number;
}

const SECONDS = 2;
const CLIENTS = '50';
const OUTSTANDING = '100';
const TICKS_A_SECOND = 100;
const PROBES = '3000';
const ONE_CORE = '0';

const enter = ({ netns }: Place, command: readonly string[]): string[] => ['nsenter', `--net=${netns}`, ...command];

/** User and system time of a process, of /proc/PID/stat, in seconds. */
export function cpuSeconds(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

/** `queries`: a file as dnsperf reads it; `cpu`: the server's, so far. */
export async function load(place: Place, queries: string, cpu: () => Promise<number>): Promise<Costs> {
  const before = await cpu();
  const output = await must(enter(place, ['dnsperf', '-s', place.address, '-d', queries, '-c', CLIENTS, '-q', OUTSTANDING, '-l', String(SECONDS)]), { timeoutMs: 30_000 });
  const used = await cpu() - before;
  const completed = Number(/Queries completed:\s+(\d+)/.exec(output)?.[1] ?? 0);
  return { perCpuSecond: completed / used, perSecond: completed / SECONDS };
}

/** With client and server on one core, microseconds. */
export async function latency(place: Place, names: readonly string[], pin: (cores: string) => Promise<unknown>): Promise<{ p50: number; p99: number }> {
  await pin(ONE_CORE);
  try {
    const prober = [process.execPath, new URL('./dns-prober.ts', import.meta.url).pathname];
    return JSON.parse(await must(enter(place, ['taskset', '-c', ONE_CORE, ...prober, place.address, PROBES, ...names]), { timeoutMs: 30_000 })) as { p50: number; p99: number };
  } finally {
    await pin('0-1023');
  }
}

export interface Peer { name: string; suffix: string; start(place: Place): Promise<{ pid: number; stop(): void }> }

interface PeerOptions { directory: string; names: readonly string[]; upstream: string }

/** Those that are installed. */
export function installedPeers({ directory, names, upstream }: PeerOptions): Peer[] {
  const addressOf = (i: number): string => `10.88.${i >> 8}.${i & 255}`;
  const foreground = (place: Place, command: readonly string[]): ChildProcess => {
    const [file, ...args] = enter(place, command);
    return spawn(file!, args, { stdio: 'ignore' });
  };
  const running = (child: ChildProcess): { pid: number; stop(): void } => ({ pid: child.pid!, stop: () => void child.kill('SIGKILL') });
  const peers: (Peer & { program: string })[] = [
    {
      name: 'dnsmasq', program: '/usr/sbin/dnsmasq', suffix: '',
      start: async (place) => running(foreground(place, [
        'dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--bind-interfaces', '--user=root', '--pid-file=', `--listen-address=${place.address}`, `--server=${upstream}`, '--cache-size=10000',
        ...names.map((name, i) => `--host-record=${name},${addressOf(i)}`),
      ])),
    },
    {
      name: 'unbound', program: '/usr/sbin/unbound', suffix: '',
      start: async (place) => {
        const path = join(directory, 'unbound.conf');
        writeFileSync(path, [
          'server:', `  interface: ${place.address}`, '  do-daemonize: no', '  chroot: ""', '  username: ""', '  pidfile: ""', '  use-syslog: no', '  module-config: "iterator"',
          ...names.map((name, i) => `  local-data: "${name}. A ${addressOf(i)}"`), 'remote-control:', '  control-enable: no', 'forward-zone:', '  name: "."', `  forward-addr: ${upstream}`, '',
        ].join('\n'));
        return running(foreground(place, ['unbound', '-d', '-c', path]));
      },
    },
    {
      name: 'aardvark', program: '/usr/lib/podman/aardvark-dns', suffix: '.dns.podman',
      start: async (place) => {
        const folder = join(directory, 'aardvark');
        mkdirSync(folder, { recursive: true });
        // Who asks is told apart by its address: the first one is the client.
        writeFileSync(join(folder, 'bench'), [place.address, ...['client', ...names].map((name, i) => `${String(i).padStart(64, '0')} ${i === 0 ? place.address : addressOf(i)}  ${name}`), ''].join('\n'));
        const path = join(folder, 'aardvark.pid');
        rmSync(path, { force: true });
        const child = foreground(place, ['/usr/lib/podman/aardvark-dns', '--config', folder, '-p', '53', 'run']);
        const pid = await until('aardvark-dns runs', () => existsSync(path) && Number(readFileSync(path, 'utf8')), 5_000);
        return {
          pid,
          stop: () => {
            child.kill('SIGKILL');
            if (pid !== child.pid) process.kill(pid, 'SIGKILL');
          },
        };
      },
    },
  ];
  return peers.filter(({ program }) => existsSync(program));
}
