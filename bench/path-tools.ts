/** Traffic between two network namespaces: iperf3 and sockperf (Debian's packages), and what they cost. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { must, run, until } from '../integration/lab/run.ts';

/** Both ends as paths of network namespaces, and where the second one is reached from the first. */
export interface Path { client: string; server: string; address: string }

export interface Costs {
  /** 64-byte UDP datagrams sent per second of the sender's core, which runs the kernel's part of every hop. The receiver has the other core. */
  packetsPerCpuSecond: number;
  /** Median TCP round trip with both ends on one core, microseconds. */
  roundTripUs: number;
  /** Bits of one TCP stream per second of both ends' CPU. */
  tcpBitsPerCpuSecond: number;
}

const TOOLS = ['iperf3', 'sockperf'] as const;
const IPERF_PORT = '5201';
const SOCKPERF_PORT = '11111';
const SECONDS = '1';
/** Of the core that both ends of a round trip share. */
const CORE = ['taskset', '-c', '0'];
/** Of sender and receiver of packets: where they move about, the kernel's part of the path runs now beside the sender and now instead of it. */
const CORES = ['-A', '0,1'];
/** Of times in /proc/stat (USER_HZ). */
const TICKS = 100;

const enter = (netns: string, command: readonly string[]): string[] => ['nsenter', `--net=${netns}`, ...command];

/** Rejects with the command that installs what lacks. */
export async function requireTools(): Promise<void> {
  const found = await Promise.all(TOOLS.map(async (tool) => (await run(['which', tool])).code === 0));
  const missing = TOOLS.filter((_, i) => !found[i]);
  if (missing.length > 0) throw new Error(`this needs ${missing.join(' and ')}: apt-get install ${missing.join(' ')}`);
}

/** Both tools' servers in a namespace. Returns the way to end them. */
export async function serve(netns: string): Promise<() => void> {
  const children: ChildProcess[] = [['iperf3', '-s', '-p', IPERF_PORT], [...CORE, 'sockperf', 'server', '--tcp', '-i', '0.0.0.0', '-p', SOCKPERF_PORT]].map((command) => {
    const [program, ...args] = enter(netns, command);
    return spawn(program!, args, { stdio: 'ignore' });
  });
  await until('the servers listen', async () => {
    const { stdout } = await run(enter(netns, ['ss', '-Hltn']));
    return stdout.includes(`:${IPERF_PORT} `) && stdout.includes(`:${SOCKPERF_PORT} `);
  }, 10_000, 50);
  return () => {
    for (const child of children) child.kill('SIGKILL');
  };
}

interface IperfReport {
  end: {
    sum: { packets: number };
    sum_sent: { bits_per_second: number };
    cpu_utilization_percent: { host_total: number; remote_total: number };
  };
}

async function iperf({ client, address }: Path, ...options: string[]): Promise<IperfReport['end']> {
  const output = await must(enter(client, ['iperf3', '-c', address, '-p', IPERF_PORT, '-t', SECONDS, '--json', ...options]), { timeoutMs: 20_000 });
  return (JSON.parse(output) as IperfReport).end;
}

/** Seconds that core 0 has been busy with, whoever for: a sender's own account leaves out what the kernel's threads do. */
function busySeconds(): number {
  const [, user, nice, system, , , interrupts, softInterrupts] = readFileSync('/proc/stat', 'utf8').split('\n').find((line) => line.startsWith('cpu0 '))!.split(' ').map(Number) as number[];
  return (user! + nice! + system! + interrupts! + softInterrupts!) / TICKS;
}

/** `before`: done ahead of each of the three. */
export async function measure(path: Path, before: () => Promise<unknown> = () => Promise.resolve()): Promise<Costs> {
  await before();
  const start = busySeconds();
  const { sum } = await iperf(path, '-u', '-l', '64', '-b', '0', ...CORES);
  const busy = busySeconds() - start;
  await before();
  const { sum_sent: sent, cpu_utilization_percent: tcp } = await iperf(path);
  await before();
  const pings = await must(enter(path.client, [...CORE, 'sockperf', 'ping-pong', '--tcp', '-i', path.address, '-p', SOCKPERF_PORT, '-t', SECONDS]), { timeoutMs: 20_000 });
  const [, oneWay = 'NaN'] = /percentile 50\.000 =\s+([\d.]+)/.exec(pings) ?? [];
  return {
    packetsPerCpuSecond: sum.packets / busy,
    // sockperf halves the round trip.
    roundTripUs: 2 * Number(oneWay),
    tcpBitsPerCpuSecond: sent.bits_per_second / ((tcp.host_total + tcp.remote_total) / 100),
  };
}
