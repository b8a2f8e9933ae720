/**
 * Questions for one name, so many a second, from several containers at once, as C libraries ask: a socket for each question, and the same one when
 * nobody answers and it is asked again. The sockets are this process's own, in the containers' namespaces.
 */
import { check, sys } from '../../linux/ffi.ts';
import type { Netns } from '../../linux/types.ts';
import { openClient } from '../../dns/sockets.ts';
import { decode, question } from '../../dns/testing.ts';

/** struct sockaddr_in: 127.0.0.11, port 53. */
const RESOLVER = Buffer.from([2, 0, 0, 53, 127, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0]);
const MSG_DONTWAIT = 0x40;
const TICK_MS = 4;
/** This process did not run for longer than that: others may not have either, and it does not count as their time. */
const LONGEST_TICK_MS = 100;

export interface QueryLoadOptions {
  netns: readonly Netns[];
  name: string;
  /** What the answer has to say. */
  address: string;
  /** Questions a second, of all together. */
  rate: number;
  /** A question without an answer for so long is asked again, and lost when that has no answer for as long. */
  retryMs: number;
}

/** Who answered what, by its time to live in seconds. */
export interface QueryCount {
  asked: number;
  /** By TTL. */
  answered: Record<number, number>;
  askedAgain: number;
  lost: number;
  /** Other answers: 'NXDOMAIN', another address. */
  wrong: Record<string, number>;
  /** Longest time to an answer of the questions that were not asked again. */
  slowestMs: number;
}

/** `at`: of #ran. */
interface Asked { from: number; fd: number; at: number; again: boolean; query: Buffer }

export class QueryLoad {
  readonly #options: QueryLoadOptions;
  #open: Asked[] = [];
  readonly #buffer = Buffer.alloc(512);
  /** For each container, the time of the last answer of a TTL: performance.now(). */
  readonly #last: Map<number, number>[];
  #timer: NodeJS.Timeout | undefined;
  #asked = 0;
  /** Milliseconds that this process ran, and performance.now() at the last tick. */
  #ran = 0;
  #tick = performance.now();
  #isEnding = false;
  readonly count: QueryCount = { asked: 0, answered: {}, askedAgain: 0, lost: 0, wrong: {}, slowestMs: 0 };

  constructor(options: QueryLoadOptions) {
    this.#options = options;
    this.#last = options.netns.map(() => new Map());
  }

  start(): void {
    this.#tick = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.#ran += Math.min(now - this.#tick, LONGEST_TICK_MS);
      this.#tick = now;
      this.#read();
      const due = this.#isEnding ? 0 : Math.floor((this.#ran * this.#options.rate) / 1000);
      while (this.#asked < due) this.#ask(this.#asked++ % this.#options.netns.length);
    }, TICK_MS);
  }

  /** Every container had an answer of that TTL since then (performance.now()). */
  answeredSince(ttl: number, since: number): boolean {
    return this.#last.every((each) => (each.get(ttl) ?? -Infinity) > since);
  }

  /** Asks nothing more; resolves when all that was asked is answered or lost. */
  async end(): Promise<void> {
    this.#isEnding = true;
    while (this.#open.length > 0) await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    this.close();
  }

  close(): void {
    clearInterval(this.#timer);
    for (const { fd } of this.#open) sys.close(fd);
    this.#open = [];
  }

  #ask(from: number): void {
    const { netns, name } = this.#options;
    const each = { from, fd: openClient(netns[from]!, 'udp'), at: this.#ran, again: false, query: question(name) };
    this.#open.push(each);
    this.count.asked++;
    send(each);
  }

  #read(): void {
    const now = this.#ran;
    const { retryMs } = this.#options;
    this.#open = this.#open.filter((each) => {
      const length = Number(sys.recv(each.fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT));
      if (length > 0) this.#note(each, Buffer.from(this.#buffer.subarray(0, length)));
      else if (now - each.at < retryMs) return true;
      else if (each.again) this.count.lost++;
      else {
        this.count.askedAgain++;
        Object.assign(each, { at: now, again: true });
        send(each);
        return true;
      }
      sys.close(each.fd);
      return false;
    });
  }

  #note({ from, at, again }: Asked, reply: Buffer): void {
    const { count } = this;
    const { rcode, answers = [] } = decode(reply);
    const [first] = answers;
    if (first?.type !== 'A' || first.data !== this.#options.address) {
      const said = first?.type === 'A' ? first.data : rcode;
      count.wrong[said] = (count.wrong[said] ?? 0) + 1;
      return;
    }
    const ttl = first.ttl ?? 0;
    count.answered[ttl] = (count.answered[ttl] ?? 0) + 1;
    if (!again) count.slowestMs = Math.max(count.slowestMs, this.#ran - at);
    this.#last[from]!.set(ttl, performance.now());
  }
}

const send = ({ fd, query }: Asked): void => void check('ask', Number(sys.sendto(fd, query, query.length, MSG_DONTWAIT, RESOLVER, RESOLVER.length)));
