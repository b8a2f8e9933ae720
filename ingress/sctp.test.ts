import { test } from 'tap';
import { ipToBytes } from '../base/ip.ts';
import { type Space, until } from '../drivers/testbed.ts';
import { openPacketSocket } from '../linux/packet-socket.ts';
import { container, meshScene, port } from './testbed.ts';

/** An SCTP association's first packet (RFC 9260 §3.3.2), made by hand: the kernel's own sockets may not be there. */
function sendInit(from: Space, source: string, destination: string, port: number): void {
  const sctp = Buffer.alloc(32);
  sctp.writeUInt16BE(40_000, 0);
  sctp.writeUInt16BE(port, 2);
  // INIT, 20 bytes: tag, window, streams out and in, first TSN.
  sctp.set([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1], 12);
  sctp.writeUInt32LE(crc32c(sctp), 8);
  const ip = Buffer.alloc(20);
  ip.set([0x45, 0, 0, ip.length + sctp.length, 0, 0, 0x40, 0, 64, 132]);
  ip.set(ipToBytes(source), 12);
  ip.set(ipToBytes(destination), 16);
  const sum = [...Array(10).keys()].reduce((total, i) => total + ip.readUInt16BE(i * 2), 0);
  ip.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
  const device = from.rtnl.link('eth0')!;
  const gateway = /lladdr (\S+)/.exec(from.run('ip', 'neigh', 'show', 'dev', 'eth0'))![1]!;
  const mac = (text: string): number[] => text.split(':').map((part) => parseInt(part, 16));
  const socket = openPacketSocket(from.netns, device.index, 0x0800);
  socket.send(Buffer.concat([Buffer.from([...mac(gateway), ...mac(device.mac!), 0x08, 0x00]), ip, sctp]));
  socket.close();
}

/** Castagnoli's, as SCTP has it (RFC 9260 appendix A). */
function crc32c(data: Buffer): number {
  let crc = 0xffff_ffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test('the first packet of an SCTP association comes to the backend', async (t) => {
  const { a, b, space, address, client } = await meshScene(t);
  const reserved = container('s1', '10.20.0.11', port(9899, 99, { protocol: 'sctp' }));
  await a.publish(reserved, 's');
  t.same(b.list(), ['sctp/9899 s: node a 10.20.0.11:99']);
  await t.rejects(a.publish(container('s2', '10.20.0.12', port(9899, 99, { protocol: 'sctp', hostIp: address })), 's2'), { code: 'WEFT-PORT-HELD' }, 'its ports exclude each other');
  space.run('nft', 'table inet test { chain c { type filter hook postrouting priority 200; ip daddr 10.20.0.11 sctp dport 99 sctp chunk init exists counter; }; }');
  // The frame is made by hand, and so needs its gateway's address.
  client.space.pings(address);
  sendInit(client.space, client.address, address, 9899);
  await until(() => space.run('nft', 'list', 'table', 'inet', 'test').includes('packets 1 '));
  t.match(space.run('nft', 'list', 'table', 'inet', 'test'), /counter packets 1 /);
  space.run('nft', 'delete', 'table', 'inet', 'test');
  await a.revoke(reserved);
  t.same(b.list(), []);
});
