/** tcpdump on a device of any network namespace, running outside of the host whose device it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { until, wait } from './run.ts';

export interface Capture {
  /** Ends it; resolves with a line per packet, as tcpdump -nn writes them. */
  stop(): Promise<string>;
}

/** Time for a packet that was just sent to be delivered and written. */
const SETTLE_MS = 200;

export async function startCapture(netnsPath: string, device: string, filter: string): Promise<Capture> {
  // nsenter becomes tcpdump, since only the network namespace changes: signals reach it.
  const child = spawn('nsenter', [`--net=${netnsPath}`, 'tcpdump', '-nn', '-l', '--immediate-mode', '-i', device, filter], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  let packets = '';
  let messages = '';
  child.stdout.on('data', (chunk: Buffer) => (packets += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (messages += chunk.toString()));
  await until('tcpdump listens', () => {
    if (child.exitCode !== null) throw new Error(messages.trim());
    return /listening on/.test(messages);
  }, 10_000, 20);
  return {
    stop: async () => {
      await wait(SETTLE_MS);
      child.kill('SIGINT');
      await ended;
      return packets;
    },
  };
}
