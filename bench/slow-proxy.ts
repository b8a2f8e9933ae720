/**
 * A TCP proxy that holds back what the server says.
 *   slow-proxy.ts PORT SERVER:PORT MILLISECONDS
 */
import net from 'node:net';

const [port = '0', server = '', delay = '0'] = process.argv.slice(2);
const [host, serverPort] = server.split(':') as [string, string];

net.createServer((client) => {
  const upstream = net.connect(Number(serverPort), host);
  client.setNoDelay().pipe(upstream.setNoDelay());
  upstream.on('data', (chunk: Buffer) => setTimeout(() => {
    if (client.writable) client.write(chunk);
  }, Number(delay)));
  upstream.on('close', () => setTimeout(() => client.destroy(), Number(delay))).on('error', () => {});
  client.on('close', () => upstream.destroy()).on('error', () => {});
}).listen(Number(port), '127.0.0.1');
