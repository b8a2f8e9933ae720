/** Packets and streams on the machine's network: node:dgram and node:net on one port, IPv4 or IPv6 as the bound address is. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, isIPv6, type Socket } from 'node:net';
import { errorText, weftError } from '../base/errors.ts';
import { bytesToIp, hostPort, ipToBytes } from '../base/ip.ts';
import type { Address } from './messages.ts';
import type { Stream, Transport } from './transport.ts';

const STREAM_TIMEOUT_MS = 10_000;
/** As many as memberlist takes at once. */
const MAX_STREAMS = 128;
const RECEIVE_BUFFER = 2 << 20;

/** The first byte of a TLS handshake (RFC 8446 §5.1); no message of gossip's begins with it. */
const TLS_HANDSHAKE = 0x16;

/**
 * Resolves once both are bound. `bind.port` 0 takes any; `advertise` is where others reach it, the bound address by
 * default. Packets and streams leave from the bound address, unless it is 0.0.0.0 or ::, which leave it to the routes. A stream that begins as TLS goes to `onTls`, whole: a second service needs no second port. Rejects with
 * WEFT-GOSSIP-BIND.
 */
export async function openTransport({ bind, advertise, onTls }: { bind: Address; advertise?: Address; onTls?: (socket: Socket) => void }): Promise<Transport> {
  const family = isIPv6(bind.host) ? 6 : 4;
  const isAny = ipToBytes(bind.host).every((byte) => byte === 0);
  // With a look-up of its own a send does not go through dns.lookup and the next tick.
  const socket = createSocket({ type: `udp${family}`, ipv6Only: family === 6, lookup: (host, _, done) => done(null, host, family) });
  const server = createServer({ noDelay: true });
  server.maxConnections = MAX_STREAMS;
  try {
    // Asked for first: with a look-up that answers at once, the event comes within bind().
    const bound = once(socket, 'listening');
    socket.bind(bind.port, bind.host);
    await bound;
    server.listen({ port: socket.address().port, host: bind.host, ipv6Only: family === 6 });
    await once(server, 'listening');
  } catch (error) {
    // When the bind fails, the socket is closed already or not, as the failure will have it.
    socket.removeAllListeners('error').on('error', () => {});
    try {
      socket.close();
    } catch { /* closed already */ }
    throw weftError('WEFT-GOSSIP-BIND', { address: hostPort(bind.host, bind.port), detail: errorText(error) });
  }
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER);
  } catch { /* the default is enough for a quiet cluster */ }
  // A lost packet or connection is gossip's everyday business; without a handler it would end the process.
  socket.on('error', () => {});
  server.on('error', () => {});

  const open = new Set<Socket>();
  const track = (each: Socket): Socket => {
    open.add(each);
    each.setTimeout(STREAM_TIMEOUT_MS, () => each.destroy(new Error('the stream stood still')));
    each.on('close', () => open.delete(each));
    return each;
  };
  return {
    // As messages spell it, so that this node knows its own address when it hears it.
    address: advertise ?? { host: bytesToIp(ipToBytes(bind.host)), port: socket.address().port },
    send: (packet, to) => socket.send(packet, to.port, to.host, () => {}),
    dial: async (to, timeoutMs) => {
      const stream = track(connect({ host: to.host, port: to.port, noDelay: true, ...(!isAny && { localAddress: bind.host }) }));
      const timer = setTimeout(() => stream.destroy(new Error(`${hostPort(to.host, to.port)} does not answer`)), timeoutMs);
      try {
        await once(stream, 'connect');
      } finally {
        clearTimeout(timer);
      }
      return streamOf(stream);
    },
    onPacket: (handler) => void socket.on('message', (packet, from) => handler(packet, { host: from.address, port: from.port })),
    onStream: (handler) => void server.on('connection', (stream) => {
      track(stream);
      const take = (): void => handler(streamOf(stream), { host: stream.remoteAddress ?? '', port: stream.remotePort ?? 0 });
      if (!onTls) return take();
      stream.on('error', () => {});
      stream.once('data', (first: Buffer) => {
        stream.pause();
        stream.unshift(first);
        if (first[0] === TLS_HANDSHAKE) return onTls(stream);
        take();
        stream.resume();
      });
    }),
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
