import fc from 'fast-check';
import { test } from 'tap';
import { attribute, nested, parseAttributes, u16, u8 } from './attributes.ts';
import { genericMessage } from './generic-netlink.ts';
import { WG, decodeDevice, deviceQuestion, encodeChange } from './wireguard-messages.ts';

const key = (byte: number): string => Buffer.alloc(32, byte).toString('base64');
const hex = (...parts: string[]): string => parts.join('').replaceAll(' ', '');

// Written by hand from linux/netlink.h (struct nlattr, NLA_F_NESTED), linux/genetlink.h and linux/wireguard.h.
test('a change, byte by byte', (t) => {
  const [message, ...more] = encodeChange('wg0', {
    privateKey: key(0x11), listenPort: 7952, removedPeers: [key(0x22)],
    peers: [{ publicKey: key(0x33), allowedIps: ['240.0.0.2/32', 'fd00::/64'], endpoint: { address: '192.0.2.7', port: 7952 }, keepaliveSeconds: 25 }],
  });
  t.same(more, []);
  t.equal(message!.toString('hex'), hex(
    '0800 0200 77673000', // WGDEVICE_A_IFNAME "wg0"
    `2400 0300 ${'11'.repeat(32)}`, // WGDEVICE_A_PRIVATE_KEY
    '0600 0600 101f 0000', // WGDEVICE_A_LISTEN_PORT, padded
    'c800 0880', // WGDEVICE_A_PEERS, nested: 4 + 48 + 148 bytes
    '3000 0080', // an element: 4 + 36 + 8
    `2400 0100 ${'22'.repeat(32)}`, '0800 0300 01000000', // WGPEER_A_PUBLIC_KEY, WGPEER_A_FLAGS: WGPEER_F_REMOVE_ME
    '9400 0080', // an element: 4 + 36 + 8 + 20 + 8 + 72
    `2400 0100 ${'33'.repeat(32)}`, '0800 0300 02000000', // WGPEER_F_REPLACE_ALLOWEDIPS
    '1400 0400 0200 1f10 c0000207 0000000000000000', // WGPEER_A_ENDPOINT: struct sockaddr_in
    '0600 0500 1900 0000', // WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL
    '4800 0980', // WGPEER_A_ALLOWEDIPS: 4 + 28 + 40
    '1c00 0080 0600 0100 0200 0000 0800 0200 f0000002 0500 0300 20000000', // WGALLOWEDIP_A_FAMILY, _IPADDR, _CIDR_MASK
    '2800 0080 0600 0100 0a00 0000 1400 0200 fd000000000000000000000000000000 0500 0300 40000000',
  ));
  t.equal(genericMessage(WG.CMD_GET_DEVICE, WG.VERSION, deviceQuestion('wg0')).toString('hex'), hex('00 01 0000', '0800 0200 77673000'), 'behind struct genlmsghdr');
  t.end();
});

test('many peers take several messages, each with the name of the link, and only the first with its key', (t) => {
  const peers = Array.from({ length: 700 }, (_, i) => ({ publicKey: Buffer.alloc(32, String(i).padStart(4, '0')).toString('base64'), allowedIps: [`240.0.${i >> 8}.${i & 255}/32`], keepaliveSeconds: 25 }));
  const messages = encodeChange('wg0', { privateKey: key(1), peers });
  t.equal(messages.length, 3);
  t.same(messages.map((message) => parseAttributes(message).has(3)), [true, false, false]);
  t.ok(messages.every((message) => message.length < 1 << 16));
  t.same(decodeDevice(messages).peers.map(({ publicKey, allowedIps }) => ({ publicKey, allowedIps })), peers.map(({ publicKey, allowedIps }) => ({ publicKey, allowedIps })), 'all of them, in order');
  t.end();
});

test('what the kernel says of a peer, in two messages where it has many prefixes', (t) => {
  const prefix = (last: number): Buffer => nested(0, u16(1, 2), attribute(2, Uint8Array.of(240, 0, 0, last)), u8(3, 32));
  const handshake = Buffer.alloc(16);
  handshake.writeBigInt64LE(1_700_000_000n, 0);
  handshake.writeBigInt64LE(500_000_000n, 8);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(5n << 32n);
  const peer = (...more: Buffer[]): Buffer => nested(8, nested(0, attribute(1, Buffer.alloc(32, 9)), ...more));
  const endpoint = Buffer.from('0a001f10000000002001 0db8000000000000000000000001 00000000'.replaceAll(' ', ''), 'hex');
  const state = decodeDevice([
    Buffer.concat([attribute(4, Buffer.alloc(32, 7)), u16(6, 7952), peer(attribute(4, endpoint), u16(5, 25), attribute(6, handshake), attribute(7, bytes), nested(9, prefix(1), prefix(2)))]),
    peer(nested(9, prefix(3))),
  ]);
  t.match(state, { publicKey: key(7), listenPort: 7952 });
  t.same(state.peers, [{
    publicKey: key(9), allowedIps: ['240.0.0.1/32', '240.0.0.2/32', '240.0.0.3/32'], endpoint: { address: '2001:db8::1', port: 7952 }, keepaliveSeconds: 25,
    lastHandshake: 1_700_000_000_500, receivedBytes: 5 * 2 ** 32, sentBytes: 0,
  }]);
  t.end();
});

test('what is written is read back', (t) => {
  const octet = fc.integer({ min: 0, max: 255 });
  const peer = fc.record({
    publicKey: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('base64')),
    allowedIps: fc.array(fc.tuple(octet, octet, fc.integer({ min: 0, max: 32 })).map(([a, b, length]) => `240.0.${a}.${b}/${length}`), { minLength: 1, maxLength: 3 }),
    endpoint: fc.record({ address: fc.tuple(octet, octet).map(([a, b]) => `192.0.${a}.${b}`), port: fc.integer({ min: 1, max: 65535 }) }),
    keepaliveSeconds: fc.integer({ min: 0, max: 65535 }),
  });
  fc.assert(fc.property(fc.uniqueArray(peer, { selector: ({ publicKey }) => publicKey, maxLength: 5 }), (peers) => {
    const read = decodeDevice(encodeChange('wg0', { peers })).peers.map(({ publicKey, allowedIps, endpoint, keepaliveSeconds }) => ({ publicKey, allowedIps, endpoint, keepaliveSeconds }));
    t.same(read, peers);
  }), { numRuns: 50 });
  t.end();
});
