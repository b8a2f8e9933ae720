/**
 * A name server on the outside machine: `upstream.ts NAME=ADDRESS[,ADDRESS…]…` answers A and AAAA for those, NXDOMAIN for the rest; over TCP
 * what is too large for UDP.
 */
import { createSocket } from 'node:dgram';
import { createServer, isIPv6 } from 'node:net';
import { decode, encode, streamDecode, streamEncode, type Packet } from 'dns-packet';

const UDP_BYTES = 512;
const TC = 0x0200;
const records = new Map(process.argv.slice(2).map((pair) => pair.split('=') as [string, string]));

function answer({ id, questions = [] }: Packet): Packet {
  const [question] = questions;
  const known = question && records.get(question.name.toLowerCase());
  const found = (known?.split(',') ?? []).map((data) => ({ type: isIPv6(data) ? 'AAAA' as const : 'A' as const, name: question!.name, ttl: 60, data })).filter(({ type }) => type === question!.type);
  return { id: id ?? 0, type: 'response', flags: 0x0180 | (known === undefined ? 3 : 0), questions, answers: found };
}

const udp = createSocket('udp4');
udp.on('message', (query, { address, port }) => {
  const reply = answer(decode(query));
  const whole = encode(reply);
  udp.send(whole.length <= UDP_BYTES ? whole : encode({ ...reply, flags: reply.flags! | TC, answers: [] }), port, address);
});
udp.bind(53);

createServer((socket) => {
  let received = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    for (let end; received.length >= 2 && received.length >= (end = 2 + received.readUInt16BE(0)); received = received.subarray(end)) socket.write(streamEncode(answer(streamDecode(received.subarray(0, end)))));
  });
}).listen(53);
