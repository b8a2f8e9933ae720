/** `dns-prober.ts ADDRESS COUNT NAME…`: one question after the other; ends with the median and the 99th percentile in microseconds as JSON. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { encode } from 'dns-packet';
import { quantile } from './figures.ts';

const [address = '', count = '0', ...names] = process.argv.slice(2);
const questions = names.map((name, id) => encode({ type: 'query', id, flags: 0x0100, questions: [{ name, type: 'A' }] }));
const socket = createSocket({ type: 'udp4', lookup: (host, _, done) => done(null, host, 4) });
socket.connect(53, address);
await once(socket, 'connect');
const took: number[] = [];
let started = 0;
const next = (): void => {
  started = performance.now();
  socket.send(questions[took.length % questions.length]!);
};
socket.on('message', () => {
  took.push((performance.now() - started) * 1000);
  if (took.length < Number(count)) return next();
  console.log(JSON.stringify({ p50: quantile(took, 0.5), p99: quantile(took, 0.99) }));
  socket.close();
});
next();
