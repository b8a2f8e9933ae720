/**
 * Sends UDP datagrams inside of a frame inside of a VXLAN packet (RFC 7348), as whoever wants to get into a network would:
 *
 *   frame.ts VTEP VNI SOURCE_MAC SOURCE_IP MAC IP PORT
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { ipToBytes } from '../../base/ip.ts';
import { wait } from './run.ts';

const VXLAN_PORT = 4789;
const [vtep = '', vni = '', sourceMac = '', sourceIp = '', mac = '', ip = '', port = ''] = process.argv.slice(2);
const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
const u16 = (...values: number[]): Buffer => Buffer.from(values.flatMap((value) => [value >> 8, value & 255]));

function ipv4Header(payload: number): Buffer {
  const header = Buffer.concat([u16(0x4500, 20 + payload, 1, 0, 0x4011, 0), ipToBytes(sourceIp), ipToBytes(ip)]);
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum >> 16) + (sum & 0xffff);
  header.writeUInt16BE(~sum & 0xffff, 10);
  return header;
}

const text = Buffer.from('let me in');
// Without a checksum, which IPv4 allows.
const datagram = Buffer.concat([u16(4000, Number(port), 8 + text.length, 0), text]);
const tag = Buffer.alloc(8);
tag[0] = 8;
tag.writeUIntBE(Number(vni), 4, 3);
const packet = Buffer.concat([tag, bytes(mac), bytes(sourceMac), u16(0x0800), ipv4Header(datagram.length), datagram]);

const socket = createSocket('udp4').bind(0);
await once(socket, 'listening');
for (let i = 0; i < 3; i++) {
  socket.send(packet, VXLAN_PORT, vtep);
  await wait(50);
}
socket.close();
