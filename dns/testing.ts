/** For tests: name servers and clients of this process inside a namespace, speaking through dns-packet. */
import { createSocket } from 'node:dgram';
import { createServer, Socket } from 'node:net';
import packet, { type Answer, type Packet } from 'dns-packet';
import type { Test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { check, sys } from '../linux/ffi.ts';
import type { Netns } from '../linux/types.ts';
import { boundSocket, datagramSocket, openClient, RESOLVER_ADDRESS } from './sockets.ts';
import { exchangeOverTcp, withLength } from './tcp-exchange.ts';

export const A = (name: string, data: string): Answer => ({ type: 'A', name, data, ttl: 60 });

/** Waits for what comes through sockets. */
export async function until(condition: () => boolean): Promise<void> {
  for (const started = performance.now(); !condition();) {
    if (performance.now() - started > 15_000) throw new Error(`this never came true: ${String(condition)}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

let nextId = 1;
export const question = (name: string, type = 'A', extra: Packet = {}): Buffer =>
  packet.encode({ type: 'query', id: nextId++ & 0xffff, flags: packet.RECURSION_DESIRED, questions: [{ name, type: type as 'A' }], ...extra });

export const decode = (message: Buffer): packet.DecodedPacket & { rcode: string } => packet.decode(message) as packet.DecodedPacket & { rcode: string };

/** 'NXDOMAIN', or the data of the answers: '10.0.0.1 10.0.0.2'; '' for none. */
export function outcome(reply: Buffer): string {
  const { rcode, answers } = decode(reply);
  return rcode === 'NOERROR' ? (answers ?? []).map((answer) => String((answer as { data?: unknown }).data)).join(' ') : rcode;
}

/** What a name server answers: records, an rcode with no records, or silence. */
export type Reaction = Answer[] | { rcode: number } | 'silence';
export type Reactions = (name: string, type: string) => Reaction;

export function react(message: Buffer, reactions: Reactions): Buffer | undefined {
  const { id, questions } = packet.decode(message);
  const { name, type } = questions![0]!;
  const reaction = reactions(name, type);
  if (reaction === 'silence') return undefined;
  const flags = packet.RECURSION_AVAILABLE | (Array.isArray(reaction) ? 0 : reaction.rcode);
  return packet.encode({ type: 'response', id: id!, flags, questions: questions!, answers: Array.isArray(reaction) ? reaction : [] });
}

export interface FakeServer { udpPort: number; tcpPort: number; queries: { name: string; type: string; transport: string }[]; close(): void }

/** Listens on 127.0.0.11 of a namespace, as Docker's resolver does, on two different ports. */
export function fakeResolver(t: Test, netns: Netns, reactions: Reactions): FakeServer {
  const queries: FakeServer['queries'] = [];
  const note = (message: Buffer, transport: string): void => {
    const { name, type } = packet.decode(message).questions![0]!;
    queries.push({ name, type, transport });
  };
  const udpFd = netns.run(() => boundSocket('udp', RESOLVER_ADDRESS, 0));
  const tcpFd = netns.run(() => boundSocket('tcp', RESOLVER_ADDRESS, 0));
  check('listen', sys.listen(tcpFd, 16));
  const udp = datagramSocket(udpFd);
  udp.on('message', (message, { port, address }) => {
    note(message, 'udp');
    const reply = react(message, reactions);
    if (reply) udp.send(reply, port, address);
  });
  const connections = new Set<Socket>();
  const tcp = createServer((socket) => {
    connections.add(socket);
    socket.on('error', () => {});
    socket.on('data', (data) => {
      note(data.subarray(2), 'tcp');
      const reply = react(data.subarray(2), reactions);
      if (reply) socket.write(withLength(reply));
    });
  });
  tcp.listen({ fd: tcpFd });
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    udp.close();
    tcp.close();
    for (const socket of connections) socket.destroy();
  };
  t.teardown(close);
  return { udpPort: udp.address().port, tcpPort: (tcp.address() as { port: number }).port, queries, close };
}

/** A name server on a loopback address of this process's own namespace. */
export async function fakeUpstream(t: Test, address: string, port: number, reactions: Reactions): Promise<{ port: number; queries: string[] }> {
  const queries: string[] = [];
  const answer = (message: Buffer): Buffer | undefined => {
    queries.push(packet.decode(message).questions![0]!.name);
    return react(message, reactions);
  };
  const udp = createSocket('udp4');
  udp.on('message', (message, from) => {
    const reply = answer(message);
    if (reply) udp.send(reply, from.port, from.address);
  });
  const tcp = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => {
      const reply = answer(data.subarray(2));
      if (reply) socket.write(withLength(reply));
    });
  });
  await new Promise<void>((resolve) => udp.bind(port, address, resolve));
  const bound = udp.address().port;
  await new Promise<void>((resolve) => tcp.listen(bound, address, resolve));
  t.teardown(() => {
    udp.close();
    tcp.close();
  });
  return { port: bound, queries };
}

/** What a program in the namespace gets from 127.0.0.11:53. Rejects when it is refused or hears nothing for 6 s. */
export function askUdp(netns: Netns, query: Buffer, port = 53): Promise<Buffer> {
  const socket = datagramSocket(openClient(netns, 'udp'));
  return new Promise<Buffer>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no answer')), 6000);
    socket.on('error', reject);
    socket.on('message', (reply) => {
      clearTimeout(timer);
      resolve(Buffer.from(reply));
    });
    socket.connect(port, RESOLVER_ADDRESS);
    socket.send(query, (error) => error && reject(error));
  }).finally(() => socket.close());
}

export async function askTcp(netns: Netns, query: Buffer, port = 53): Promise<Buffer> {
  const socket = new Socket({ fd: openClient(netns, 'tcp') }).connect(port, RESOLVER_ADDRESS);
  const reply = await exchangeOverTcp(socket, query, query.length, { clock: systemClock, timeoutMs: 6000 });
  if (typeof reply === 'string') throw new Error(reply);
  return reply;
}
