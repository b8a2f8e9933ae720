/**
 * Says everything to a node's gossip port that gossip and soft state know, by UDP and TCP, and prints what came back:
 *
 *   intruder.ts HOST PORT NODE [KEY]
 *
 * NODE is the id of the node there, which the messages are about. They are sealed with KEY (base 64), else in the clear.
 * Runs inside a host of the lab. One JSON object: for each message 'TRANSPORT KIND' the type of what answered, or none.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { systemRandom } from '../../base/random.ts';
import { encodeMessage } from '../../cluster/wire.ts';
import { createEnvelope } from '../../gossip/envelope.ts';
import { compound, withChecksum } from '../../gossip/framing.ts';
import { Keyring } from '../../gossip/keyring.ts';
import { compress } from '../../gossip/lzw.ts';
import {
  encodeAccusation, encodeAck, encodeAlive, encodeCompressed, encodeError, encodeIndirectPing, encodeNack, encodePing, encodePushPull, encodeUserPacket, encodeUserStream, type Alive,
} from '../../gossip/messages.ts';
import { wait } from './run.ts';

const ANSWER_MS = 1_000;
const LATER = 1_000;
const [host = '', portText = '', node = '', key] = process.argv.slice(2);
const port = Number(portText);

const socket = createSocket('udp4');
socket.bind(0);
await once(socket, 'listening');
const source = { host: '0.0.0.0', port: socket.address().port };
const versions = [1, 5, 5, 0, 0, 0] as const;
const stranger: Alive = { incarnation: 1, node: 'f'.repeat(16), address: { host: '10.99.9.9', port }, meta: Buffer.from('stranger'), versions };
const elsewhere: Alive = { ...stranger, incarnation: LATER, node };
const record = { id: node, name: 'stolen', number: 1, vtep: '10.99.9.9', underlayMtu: 1500, occupied: [], skippedPorts: [] };
const records = encodeMessage({ kind: 'records', from: node, shipments: [{ owner: node, epoch: 2 ** 52, from: 0, upTo: 1, completeAt: 1, records: [['node', 'self', 1, record]] }] });
const digest = encodeMessage({ kind: 'digest', from: stranger.node, owners: {}, whole: true, reply: true });
const accusation = { incarnation: LATER, node, from: stranger.node };
const ping = { seq: 77, node, source, sourceNode: stranger.node };

const packets: Record<string, Buffer> = {
  ping: encodePing(ping),
  'indirect ping': encodeIndirectPing({ ...ping, target: { host, port }, nack: true }),
  ack: encodeAck(77),
  nack: encodeNack(77),
  suspect: encodeAccusation('suspect', accusation),
  dead: encodeAccusation('dead', accusation),
  'alive, a new member': encodeAlive(stranger),
  'alive, elsewhere': encodeAlive(elsewhere),
  'soft state, records': encodeUserPacket(records),
  'soft state, digest': encodeUserPacket(digest),
  error: encodeError('nonsense'),
  compound: compound([encodePing(ping), encodeAlive(stranger)]),
  compressed: encodeCompressed(compress(encodePing(ping))),
  checksum: withChecksum(encodePing(ping)),
  label: Buffer.concat([Buffer.of(244, 1, 120), encodePing(ping)]),
};
const streams: Record<string, Buffer> = {
  'state exchange, as a joiner': encodePushPull({ join: true, nodes: [{ ...stranger, state: 'alive' }], userState: digest }),
  'state exchange, a death': encodePushPull({ join: false, nodes: [{ ...elsewhere, state: 'dead' }], userState: records }),
  'soft state, records': encodeUserStream(records),
  'soft state, digest': encodeUserStream(digest),
  ping: encodePing(ping),
  error: encodeError('nonsense'),
  http: Buffer.from('GET /v1/status HTTP/1.0\r\n\r\n'),
};
const envelope = createEnvelope({ ...(key !== undefined && { keyring: new Keyring(Buffer.from(key, 'base64')) }) }, systemRandom);
/** Type byte of an answer, -1 where there was none. */
const answers: Record<string, number> = {};

for (const [kind, packet] of Object.entries(packets)) {
  answers[`udp ${kind}`] = -1;
  const take = (data: Buffer): void => void (answers[`udp ${kind}`] = data[0] ?? -1);
  socket.on('message', take).send(envelope.wrapPacket(packet), port, host);
  await wait(ANSWER_MS / 4);
  socket.off('message', take);
}
socket.close();

await Promise.all(Object.entries(streams).map(async ([kind, message]) => {
  answers[`tcp ${kind}`] = -1;
  const stream = connect(port, host, () => stream.write(envelope.wrapStream(message, true)));
  stream.on('data', (data: Buffer) => {
    if (answers[`tcp ${kind}`] === -1) answers[`tcp ${kind}`] = data[0] ?? -1;
  });
  stream.on('error', () => {});
  await Promise.race([new Promise((resolve) => void stream.on('close', resolve)), wait(ANSWER_MS)]);
  stream.destroy();
}));
console.log(JSON.stringify(answers));
