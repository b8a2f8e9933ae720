/**
 * Traffic between two containers that nobody touches: a ping five times a second, and one TCP connection that carries a
 * line as often. Both go on from the namespaces themselves, so nothing but the network between them is in their way.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Host } from '../lab/host.ts';
import { until, wait } from '../lab/run.ts';

const INTERVAL_MS = 200;
const PORT = 7000;

export interface Party { host: Host; container: string; address: string }

/** No answer in time between two moments of performance.now(). */
export interface Outage { from: number; to: number }

export interface Answer {
  /** Which ping it answers; they are counted from 0. */
  sequence: number;
  /** When it was seen here, in milliseconds of performance.now(). */
  at: number;
  /** From the ping to its answer, in milliseconds. */
  took: number;
}

/**
 * Where pings that follow each other, `ms` of them and more, had no answer before the next one was sent; the last outage
 * is open when nothing came since. It is pings that are counted, not the time between answers: while a machine stands
 * still as a whole nobody asks, and a network that was not asked was not away.
 */
export function outagesOf(answers: readonly Answer[], now: number, ms: number): Outage[] {
  const [first, ...others] = answers.filter(({ took }) => took < INTERVAL_MS).toSorted((a, b) => a.sequence - b.sequence);
  const outages: Outage[] = [];
  let last = first ?? { sequence: 0, at: 0, took: 0 };
  for (const answer of others) {
    if ((answer.sequence - last.sequence) * INTERVAL_MS > ms) outages.push({ from: last.at, to: answer.at });
    last = answer;
  }
  return now - last.at > ms ? [...outages, { from: last.at, to: now }] : outages;
}

export class Traffic {
  readonly from: Party;
  readonly to: Party;
  readonly #answers: Answer[] = [];
  readonly #processes: ChildProcess[] = [];
  readonly #received: number[] = [];
  #sent = 0;
  #timer: NodeJS.Timeout | undefined;

  private constructor(from: Party, to: Party) {
    this.from = from;
    this.to = to;
  }

  /** Resolves when both work. */
  static async between(from: Party, to: Party): Promise<Traffic> {
    const traffic = new Traffic(from, to);
    await traffic.#start();
    return traffic;
  }

  get name(): string {
    return `${this.from.container} to ${this.to.container}`;
  }

  async #start(): Promise<void> {
    const ping = await this.#inside(this.from, ['busybox', 'ping', '-i', String(INTERVAL_MS / 1000), this.to.address]);
    createInterface(ping.stdout!).on('line', (line) => {
      const [, sequence, took] = /seq=(\d+) .*time=([\d.]+)/.exec(line) ?? [];
      if (took !== undefined) this.#answers.push({ sequence: Number(sequence), at: performance.now(), took: Number(took) });
    });
    const server = await this.#inside(this.to, ['busybox', 'nc', '-l', '-p', String(PORT)]);
    createInterface(server.stdout!).on('line', (line) => this.#received.push(Number(line)));
    await wait(INTERVAL_MS);
    const client = await this.#inside(this.from, ['busybox', 'nc', this.to.address, String(PORT)]);
    client.stdin!.on('error', () => undefined);
    this.#timer = setInterval(() => client.stdin!.write(`${this.#sent++}\n`), INTERVAL_MS);
    await until(`traffic from ${this.name}`, () => this.#answers.length > 0 && this.#received.length > 0);
  }

  async #inside({ host, container }: Party, command: readonly string[]): Promise<ChildProcess> {
    const child = spawn('nsenter', [`--net=${await host.containerNetns(container)}`, ...command], { stdio: ['pipe', 'pipe', 'ignore'] });
    this.#processes.push(child);
    return child;
  }

  /** Longer than `ms`. */
  outages(ms: number): Outage[] {
    return outagesOf(this.#answers, performance.now(), ms);
  }

  /** What the connection carried; complete when every line has arrived once, in order. */
  stream(): { sent: number; received: number; inOrder: boolean } {
    return { sent: this.#sent, received: this.#received.length, inOrder: this.#received.every((line, i) => line === i) };
  }

  /** The connection carries nothing new. */
  pause(): void {
    clearInterval(this.#timer);
  }

  stop(): void {
    this.pause();
    for (const child of this.#processes) child.kill('SIGKILL');
  }
}
