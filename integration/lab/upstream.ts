/** A name server on the outside machine: `upstream.ts NAME=ADDRESS…` answers A for those, NXDOMAIN for the rest. */
import { createSocket } from 'node:dgram';
import { decode, encode } from 'dns-packet';

const records = new Map(process.argv.slice(2).map((pair) => pair.split('=') as [string, string]));
const socket = createSocket('udp4');
socket.on('message', (query, { address, port }) => {
  const { id, questions = [] } = decode(query);
  const [question] = questions;
  const known = question && records.get(question.name.toLowerCase());
  socket.send(encode({
    id: id ?? 0, type: 'response', flags: 0x0180 | (known === undefined ? 3 : 0), questions,
    answers: known !== undefined && question?.type === 'A' ? [{ type: 'A', name: question.name, ttl: 60, data: known }] : [],
  }), port, address);
});
socket.bind(53);
