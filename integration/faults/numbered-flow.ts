/**
 * One UDP flow of numbered packets, from one namespace to a port in another, which sends each back: what is lost, comes twice or overtakes
 * another, on either way. Both sockets are this process's own, so nothing but the network between them is in the way.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { openNetns } from '../../linux/netns.ts';
import type { Host } from '../lab/host.ts';
import { must } from '../lab/run.ts';

/** `netns`: path of a network namespace. */
export interface Place { netns: string; address: string; port: number }

/** Where a sandbox of a host's is, seen from outside of the host. */
export const netnsOf = (host: Host, name: string): string => `/proc/${host.pid}/root/run/netns/${name}`;

/** `lost`: runs of packets that did not come back, wherever they were lost. */
export interface FlowCount { sent: number; lost: { count: number; when: Date }[]; doubled: number; reordered: number }

const PACKET_BYTES = 8;
/** Packets that are sent at once. */
const MAX_BURST = 20;
/** Of packets that do not count. */
const PROBE = 0xffff_ffff;

/** Bound in the namespace: with a look-up that answers at once, the socket is made within the call. */
export async function socketIn({ netns, address, port }: Place): Promise<Socket> {
  const space = openNetns(netns);
  try {
    const socket = createSocket({ type: 'udp4', lookup: (host, _, done) => done(null, host, 4) });
    const bound = once(socket, 'listening');
    space.run(() => void socket.bind(port, address));
    await bound;
    return socket;
  } finally {
    space.close();
  }
}

/** What arrives of packets that are numbered from 0. */
class Arrivals {
  readonly #seen = new Set<number>();
  #highest = -1;
  doubled = 0;
  reordered = 0;

  add(number: number): void {
    if (this.#seen.has(number)) this.doubled++;
    else if (number < this.#highest) this.reordered++;
    this.#seen.add(number);
    this.#highest = Math.max(this.#highest, number);
  }

  has(number: number): boolean {
    return this.#seen.has(number);
  }
}

/**
 * This process, and what it starts, stays on one processor: packets of one flow that leave from two of them overtake each other
 * where a hypervisor takes one away for a moment, whatever network they cross.
 */
export async function stayOnOneProcessor(): Promise<void> {
  const [, first] = /^Cpus_allowed_list:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))!;
  await must(['taskset', '-cp', first!, String(process.pid)]);
}

export class NumberedFlow {
  readonly name: string;
  readonly #sender: Socket;
  readonly #receiver: Socket;
  readonly #to: { address: string; port: number };
  readonly #there = new Arrivals();
  readonly #back = new Arrivals();
  /** When each was sent, milliseconds since 1970. */
  readonly #sent: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** A probe has come back. */
  works = false;

  private constructor(name: string, sender: Socket, receiver: Socket, to: { address: string; port: number }) {
    this.name = name;
    this.#sender = sender;
    this.#receiver = receiver;
    this.#to = to;
    receiver.on('message', (packet, from) => {
      const number = packet.readUInt32LE(0);
      if (number !== PROBE) this.#there.add(number);
      receiver.send(packet, from.port, from.address);
    });
    sender.on('message', (packet) => {
      const number = packet.readUInt32LE(0);
      if (number === PROBE) this.works = true;
      else this.#back.add(number);
    });
  }

  /** `to`: where the packets are sent, if that is not where they arrive. */
  static async open(name: string, from: Place, at: Place, to: { address: string; port: number } = at): Promise<NumberedFlow> {
    return new NumberedFlow(name, await socketIn(from), await socketIn(at), to);
  }

  /** Packets a second, evenly spread; also after a pause. */
  start(rate: number): void {
    let next = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      // What a machine that stood still has missed would come at once, and overflow its queues (net.core.netdev_max_backlog).
      next = Math.max(next, now - (1000 * MAX_BURST) / rate);
      for (; next <= now; next += 1000 / rate) this.#send(this.#sent.push(Date.now()) - 1);
    }, 1000 / rate);
  }

  /** Sends a packet that is not counted. */
  probe(): void {
    this.#send(PROBE);
  }

  #send(number: number): void {
    const packet = Buffer.alloc(PACKET_BYTES);
    packet.writeUInt32LE(number, 0);
    this.#sender.send(packet, this.#to.port, this.#to.address);
  }

  /** Sends nothing more. */
  pause(): void {
    clearInterval(this.#timer);
  }

  /** Of both ways. */
  count(): FlowCount {
    const lost: FlowCount['lost'] = [];
    let run: FlowCount['lost'][number] | undefined;
    for (const [number, time] of this.#sent.entries()) {
      if (this.#back.has(number)) run = undefined;
      else if (run) run.count++;
      else lost.push(run = { count: 1, when: new Date(time) });
    }
    return { sent: this.#sent.length, lost, doubled: this.#there.doubled + this.#back.doubled, reordered: this.#there.reordered + this.#back.reordered };
  }

  close(): void {
    this.pause();
    this.#sender.close();
    this.#receiver.close();
  }
}
