import { once } from 'node:events';
import net from 'node:net';
import { test } from 'tap';
import { hostNetns } from './netns.ts';
import { endConnections } from './tcp-connections.ts';

test('connections of one peer to one port are ended, others stay', async (t) => {
  const listen = async () => {
    const accepted: net.Socket[] = [];
    const server = net.createServer((socket) => void accepted.push(socket.on('error', () => {}))).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => {
      accepted.forEach((socket) => socket.destroy());
      server.close();
    });
    return (server.address() as net.AddressInfo).port;
  };
  const [port, other] = [await listen(), await listen()];
  const connect = async (to: number, from: string) => {
    const socket = net.connect({ port: to, host: '127.0.0.1', localAddress: from });
    t.teardown(() => socket.destroy());
    const ended = new Promise<string>((resolve) => void socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? '')));
    await once(socket, 'connect');
    return { socket, ended };
  };
  const removed = await connect(port, '127.0.0.3');
  const stay = [await connect(port, '127.0.0.4'), await connect(other, '127.0.0.3')];
  t.equal(endConnections(hostNetns, '127.0.0.3', [port]), 1);
  t.match(await removed.ended, /ECONNRESET|ECONNABORTED/);
  t.equal(endConnections(hostNetns, '127.0.0.3', [port]), 0, 'none is no error');
  for (const { socket } of stay) t.ok(socket.writable && !socket.destroyed);
});
