/** Packets and streams on the machine's network: node:dgram and node:net on one port. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Address } from './messages.ts';
import type { Stream, Transport } from './transport.ts';

const STREAM_TIMEOUT_MS = 10_000;
const MAX_STREAMS = 128;
const RECEIVE_BUFFER = 2 << 20;

/** Resolves once both are bound. `advertise` is where others reach it, the bound address by default. */
export async function openTransport({ bind, advertise }: { bind: Address; advertise?: Address }): Promise<Transport> {
  // With a look-up of its own a send does not go through dns.lookup and the next tick.
  const socket = createSocket({ type: 'udp4', lookup: (host, _, done) => done(null, host, 4) });
  // Awaited from before: with a look-up that answers at once, it is bound before bind returns.
  const bound = once(socket, 'listening');
  socket.bind(bind.port, bind.host);
  await bound;
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER);
  } catch { /* the default is enough for a quiet cluster */ }
  const { port } = socket.address();
  const server = createServer();
  server.maxConnections = MAX_STREAMS;
  try {
    server.listen(port, bind.host);
    await once(server, 'listening');
  } catch (error) {
    socket.close();
    throw error;
  }
  const open = new Set<Socket>();
  const track = (each: Socket): Socket => {
    open.add(each);
    each.setTimeout(STREAM_TIMEOUT_MS, () => each.destroy(new Error('the stream stood still')));
    each.on('close', () => open.delete(each));
    return each;
  };
  return {
    address: advertise ?? { host: bind.host, port },
    send: (packet, to) => socket.send(packet, to.port, to.host, () => {}),
    dial: async (to, timeoutMs) => {
      const stream = track(connect({ host: to.host, port: to.port }));
      const timer = setTimeout(() => stream.destroy(new Error(`${to.host}:${to.port} does not answer`)), timeoutMs);
      try {
        await once(stream, 'connect');
      } finally {
        clearTimeout(timer);
      }
      return streamOf(stream);
    },
    onPacket: (handler) => void socket.on('message', (packet, from) => handler(packet, { host: from.address, port: from.port })),
    onStream: (handler) => void server.on('connection', (stream) => handler(streamOf(track(stream)), { host: stream.remoteAddress ?? '', port: stream.remotePort ?? 0 })),
    close: async () => {
      for (const each of open) each.destroy();
      await Promise.all([new Promise<void>((resolve) => socket.close(() => resolve())), new Promise<void>((resolve) => server.close(() => resolve()))]);
    },
  };
}

function streamOf(socket: Socket): Stream {
  let failure: Error | undefined;
  socket.on('error', (error) => (failure = error));
  return {
    write: (data) => void socket.write(data),
    onData: (handler) => void socket.on('data', handler),
    onEnd: (handler) => {
      let told = false;
      const tell = (): void => {
        if (!told) handler(failure);
        told = true;
      };
      socket.on('end', tell);
      socket.on('close', tell);
    },
    close: () => void socket.end(),
  };
}
