/** What is said to WireGuard's netlink family, encoded and decoded (linux/wireguard.h). */
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { attribute, eachAttribute, nested, optional, parseAttributes, text, u16, u32, u8 } from './attributes.ts';

export const WG = { FAMILY: 'wireguard', VERSION: 1, CMD_GET_DEVICE: 0, CMD_SET_DEVICE: 1 } as const;

const DEVICE = { IFNAME: 2, PRIVATE_KEY: 3, PUBLIC_KEY: 4, LISTEN_PORT: 6, PEERS: 8 } as const;
const PEER = { PUBLIC_KEY: 1, FLAGS: 3, ENDPOINT: 4, KEEPALIVE: 5, LAST_HANDSHAKE: 6, RX_BYTES: 7, TX_BYTES: 8, ALLOWED_IPS: 9 } as const;
const PEER_FLAG = { REMOVE_ME: 1, REPLACE_ALLOWED_IPS: 2 } as const;
const ALLOWED_IP = { FAMILY: 1, ADDRESS: 2, LENGTH: 3 } as const;
const AF_INET = 2;
const AF_INET6 = 10;
/** Peers of one message: the list is one attribute, which has at most 64 KiB, and a peer with one prefix about 120 bytes. */
const PEERS_PER_MESSAGE = 256;

/** Keys are Curve25519's, 32 bytes in base 64, as WireGuard's own tools write them. */
export interface WireguardEndpoint { address: string; port: number }

export interface WireguardPeer {
  publicKey: string;
  /** Prefixes that are sent to this peer, and that it may send from: one belongs to one peer at a time. */
  allowedIps: readonly string[];
  /** Left out: as it is. The kernel changes it itself when the peer speaks from elsewhere. */
  endpoint?: WireguardEndpoint;
  keepaliveSeconds: number;
}

export interface WireguardChange {
  /** A change makes each peer shake hands anew before the next packet. */
  privateKey?: string;
  listenPort?: number;
  /** Made, or made equal. */
  peers?: readonly WireguardPeer[];
  /** Public keys; before any peer is made. */
  removedPeers?: readonly string[];
}

export interface WireguardPeerState extends WireguardPeer {
  /** Milliseconds since the Unix epoch; undefined: never. */
  lastHandshake: number | undefined;
  receivedBytes: number;
  sentBytes: number;
}

export interface WireguardState { publicKey: string | undefined; listenPort: number; peers: WireguardPeerState[] }

/** The attributes of one or several messages, to be sent in this order. */
export function encodeChange(link: string, { privateKey, listenPort, peers = [], removedPeers = [] }: WireguardChange): Buffer[] {
  const all = [...removedPeers.map((key) => nested(0, keyOf(PEER.PUBLIC_KEY, key), u32(PEER.FLAGS, PEER_FLAG.REMOVE_ME))), ...peers.map(encodePeer)];
  const messages: Buffer[] = [];
  for (let start = 0; start === 0 || start < all.length; start += PEERS_PER_MESSAGE) {
    const some = all.slice(start, start + PEERS_PER_MESSAGE);
    messages.push(Buffer.concat([
      text(DEVICE.IFNAME, link),
      ...(start === 0 ? [...optional(privateKey, (key) => keyOf(DEVICE.PRIVATE_KEY, key)), ...optional(listenPort, (port) => u16(DEVICE.LISTEN_PORT, port))] : []),
      ...(some.length > 0 ? [nested(DEVICE.PEERS, ...some)] : []),
    ]));
  }
  return messages;
}

const keyOf = (type: number, base64: string): Buffer => attribute(type, Buffer.from(base64, 'base64'));

/** An element of a list has no number of its own: its type is 0. */
const encodePeer = ({ publicKey, allowedIps, endpoint, keepaliveSeconds }: WireguardPeer): Buffer => nested(
  0,
  keyOf(PEER.PUBLIC_KEY, publicKey), u32(PEER.FLAGS, PEER_FLAG.REPLACE_ALLOWED_IPS),
  ...optional(endpoint, (value) => attribute(PEER.ENDPOINT, socketAddress(value))), u16(PEER.KEEPALIVE, keepaliveSeconds),
  nested(PEER.ALLOWED_IPS, ...allowedIps.map(encodePrefix)),
);

function encodePrefix(prefix: string): Buffer {
  const [ip = '', length = ''] = prefix.split('/');
  const address = ipToBytes(ip);
  return nested(0, u16(ALLOWED_IP.FAMILY, address.length === 4 ? AF_INET : AF_INET6), attribute(ALLOWED_IP.ADDRESS, address), u8(ALLOWED_IP.LENGTH, Number(length)));
}

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress({ address, port }: WireguardEndpoint): Buffer {
  const ip = ipToBytes(address);
  const bytes = Buffer.alloc(ip.length === 4 ? 16 : 28);
  bytes.writeUInt16LE(ip.length === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  return bytes;
}

export const deviceQuestion = (link: string): Buffer => text(DEVICE.IFNAME, link);

/** The messages of one device: each has some of its peers, and a peer with many prefixes is in several. */
export function decodeDevice(messages: readonly Buffer[]): WireguardState {
  const state: WireguardState = { publicKey: undefined, listenPort: 0, peers: [] };
  for (const message of messages) {
    const attributes = parseAttributes(message);
    state.publicKey ??= attributes.get(DEVICE.PUBLIC_KEY)?.toString('base64');
    state.listenPort ||= attributes.get(DEVICE.LISTEN_PORT)?.readUInt16LE(0) ?? 0;
    for (const [, element] of eachAttribute(attributes.get(DEVICE.PEERS) ?? Buffer.alloc(0))) {
      const peer = decodePeer(element);
      const last = state.peers.at(-1);
      if (last?.publicKey === peer.publicKey) last.allowedIps = [...last.allowedIps, ...peer.allowedIps];
      else state.peers.push(peer);
    }
  }
  return state;
}

function decodePeer(element: Buffer): WireguardPeerState {
  const attributes = parseAttributes(element);
  const endpoint = attributes.get(PEER.ENDPOINT);
  // struct __kernel_timespec: seconds (8), nanoseconds (8).
  const handshake = attributes.get(PEER.LAST_HANDSHAKE);
  const seconds = Number(handshake?.readBigInt64LE(0) ?? 0n);
  return {
    publicKey: attributes.get(PEER.PUBLIC_KEY)?.toString('base64') ?? '',
    allowedIps: [...eachAttribute(attributes.get(PEER.ALLOWED_IPS) ?? Buffer.alloc(0))].map(([, prefix]) => decodePrefix(prefix)),
    ...(endpoint && { endpoint: readSocketAddress(endpoint) }),
    keepaliveSeconds: attributes.get(PEER.KEEPALIVE)?.readUInt16LE(0) ?? 0,
    lastHandshake: seconds === 0 ? undefined : seconds * 1000 + Math.floor(Number(handshake!.readBigInt64LE(8)) / 1e6),
    receivedBytes: Number(attributes.get(PEER.RX_BYTES)?.readBigUInt64LE(0) ?? 0n),
    sentBytes: Number(attributes.get(PEER.TX_BYTES)?.readBigUInt64LE(0) ?? 0n),
  };
}

function decodePrefix(element: Buffer): string {
  const attributes = parseAttributes(element);
  return `${bytesToIp(attributes.get(ALLOWED_IP.ADDRESS) ?? Buffer.alloc(4))}/${attributes.get(ALLOWED_IP.LENGTH)?.readUInt8(0) ?? 0}`;
}

const readSocketAddress = (bytes: Buffer): WireguardEndpoint => ({
  address: bytesToIp(bytes.readUInt16LE(0) === AF_INET ? bytes.subarray(4, 8) : bytes.subarray(8, 24)), port: bytes.readUInt16BE(2),
});
