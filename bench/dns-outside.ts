/** The name server on the outside machine: `e…` under `example` exist, everything else does not; both may be kept for five minutes. */
import { createSocket } from 'node:dgram';
import { decode, encode, type Answer } from 'dns-packet';

const TTL = 300;
const SOA: Answer = { type: 'SOA', name: 'example', ttl: TTL, data: { mname: 'ns.example', rname: 'root.example', serial: 1, refresh: TTL, retry: TTL, expire: TTL, minimum: TTL } };
const NXDOMAIN = 3;
const socket = createSocket({ type: 'udp4', lookup: (host, _, done) => done(null, host, 4) });
socket.on('message', (query, { address, port }) => {
  const { id, questions = [] } = decode(query);
  const name = questions[0]?.name ?? '';
  const exists = /^e\d+\.example$/i.test(name);
  socket.send(encode({
    id: id ?? 0, type: 'response', flags: 0x0180 | (exists ? 0 : NXDOMAIN), questions,
    ...(exists && questions[0]?.type === 'A' ? { answers: [{ type: 'A', name, ttl: TTL, data: '198.51.100.7' }] } : { authorities: [SOA] }),
  }), port, address);
});
socket.bind(53);
