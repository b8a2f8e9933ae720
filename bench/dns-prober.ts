/**
 * `dns-prober.ts ADDRESS COUNT NAME…`: one question after the other; ends with the median and the 99th percentile in microseconds as JSON. By plain
 * system calls that wait: an event loop of its own would add to everybody's time half of what the fastest resolver takes.
 */
import { encode } from 'dns-packet';
import { ipToBytes } from '../base/ip.ts';
import { check, sys } from '../linux/ffi.ts';
import { quantile } from './figures.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const PATIENCE_S = 5n;

const [address = '', count = '0', ...names] = process.argv.slice(2);
const questions = names.map((name, id) => encode({ type: 'query', id, flags: 0x0100, questions: [{ name, type: 'A' }] }));
// struct sockaddr_in
const server = Buffer.from([AF_INET, 0, 0, 53, ...ipToBytes(address), 0, 0, 0, 0, 0, 0, 0, 0]);
// struct timeval
const patience = Buffer.from(BigInt64Array.of(PATIENCE_S, 0n).buffer);
const answer = Buffer.alloc(4096);
const socket = check('open a socket', sys.socket(AF_INET, SOCK_DGRAM, 0));
check('limit the wait', sys.setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, patience, patience.length));
const took: number[] = [];
for (let i = 0; i < Number(count); i++) {
  const question = questions[i % questions.length]!;
  const started = performance.now();
  check('ask', Number(sys.sendto(socket, question, question.length, 0, server, server.length)));
  check('wait for the answer', Number(sys.recvfrom(socket, answer, answer.length, 0, null, null)));
  took.push((performance.now() - started) * 1000);
  if (answer.readUInt16BE(0) !== question.readUInt16BE(0)) throw new Error('that is the answer to another question');
}
console.log(JSON.stringify({ p50: quantile(took, 0.5), p99: quantile(took, 0.99) }));
