/** memberlist's messages (net.go, state.go of HashiCorp's memberlist): one type byte and a MessagePack map with sorted fields. */
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { Incomplete, bool, map, nil, raw, uint, unpack, type Packed } from './msgpack.ts';
import type { Versions } from './versions.ts';

export const TYPE = {
  ping: 0, indirectPing: 1, ack: 2, suspect: 3, alive: 4, dead: 5, pushPull: 6, compound: 7, user: 8, compress: 9, encrypt: 10, nack: 11, crc: 12, error: 13, label: 244,
} as const;

export interface Address { host: string; port: number }
export interface Ping { seq: number; node: string; sourceNode?: string; source?: Address }
export interface IndirectPing extends Ping { target: Address; nack: boolean }
export interface Accusation { incarnation: number; node: string; from: string }
export interface Alive { incarnation: number; node: string; address: Address; meta: Buffer; versions: Versions }
export const STATES = ['alive', 'suspect', 'dead', 'left'] as const;
export type NodeState = (typeof STATES)[number];
export interface NodeRecord extends Alive { state: NodeState }
export interface PushPull { join: boolean; nodes: NodeRecord[]; userState: Buffer }

const MAX_NODES = 1 << 20;
export const MAX_USER_BYTES = 20 << 20;
const MAX_NAME = 255;
export const MAX_META = 512;
const MAX_ERROR = 1024;

const typed = (type: number, body: Buffer): Buffer => Buffer.concat([Buffer.of(type), body]);

const sourceFields = ({ source, sourceNode }: Ping) => ({
  SourceAddr: source && raw(ipToBytes(source.host)), SourceNode: sourceNode === undefined ? undefined : raw(sourceNode), SourcePort: source && uint(source.port),
});

export const encodePing = (ping: Ping): Buffer => typed(TYPE.ping, map({ Node: raw(ping.node), SeqNo: uint(ping.seq), ...sourceFields(ping) }));

export const encodeIndirectPing = (ping: IndirectPing): Buffer => typed(TYPE.indirectPing, map({
  Nack: bool(ping.nack), Node: raw(ping.node), Port: uint(ping.target.port), SeqNo: uint(ping.seq), ...sourceFields(ping), Target: raw(ipToBytes(ping.target.host)),
}));

export const encodeAck = (seq: number, payload?: Uint8Array): Buffer => typed(TYPE.ack, map({ Payload: payload ? raw(payload) : nil, SeqNo: uint(seq) }));
export const encodeNack = (seq: number): Buffer => typed(TYPE.nack, map({ SeqNo: uint(seq) }));

export const encodeAccusation = (type: 'suspect' | 'dead', { incarnation, node, from }: Accusation): Buffer =>
  typed(TYPE[type], map({ From: raw(from), Incarnation: uint(incarnation), Node: raw(node) }));

export const encodeAlive = ({ incarnation, node, address, meta, versions }: Alive): Buffer => typed(TYPE.alive, map({
  Addr: raw(ipToBytes(address.host)), Incarnation: uint(incarnation), Meta: meta.length > 0 ? raw(meta) : nil, Node: raw(node), Port: uint(address.port), Vsn: raw(Uint8Array.from(versions)),
}));

export const encodeRecord = ({ incarnation, node, address, meta, versions, state }: NodeRecord): Buffer => map({
  Addr: raw(ipToBytes(address.host)), Incarnation: uint(incarnation), Meta: meta.length > 0 ? raw(meta) : nil, Name: raw(node), Port: uint(address.port),
  State: uint(STATES.indexOf(state)), Vsn: raw(Uint8Array.from(versions)),
});

export const encodePushPull = ({ join, nodes, userState }: PushPull): Buffer => encodeState(join, nodes.map(encodeRecord), userState);

/** A PushPull of records that are encoded already. */
export function encodeState(join: boolean, records: readonly Buffer[], userState: Uint8Array): Buffer {
  return typed(TYPE.pushPull, Buffer.concat([map({ Join: bool(join), Nodes: uint(records.length), UserStateLen: uint(userState.length) }), ...records, userState]));
}

export const encodeUserPacket = (payload: Uint8Array): Buffer => typed(TYPE.user, Buffer.from(payload));
export const encodeUserStream = (payload: Uint8Array): Buffer => typed(TYPE.user, Buffer.concat([map({ UserMsgLen: uint(payload.length) }), payload]));

// Decoding. Fields may be missing, unknown, or in an array in sorted order (Go accepts all of that).

class Fields {
  readonly #fields: { [key: string]: Packed };
  constructor(packed: Packed, order: readonly string[]) {
    if (Array.isArray(packed)) this.#fields = Object.fromEntries(order.map((name, i) => [name, packed[i] ?? null]));
    else if (packed !== null && typeof packed === 'object' && !Buffer.isBuffer(packed)) this.#fields = packed;
    else throw new RangeError('a map was expected');
  }

  int(name: string): number {
    const value = this.#fields[name];
    if (typeof value === 'bigint') return Number(value);
    return typeof value === 'number' && Number.isInteger(value) ? value : 0;
  }

  bytes(name: string): Buffer {
    const value = this.#fields[name];
    if (Buffer.isBuffer(value)) return value;
    return Array.isArray(value) ? Buffer.from(value.map((each) => (typeof each === 'number' ? each : 0))) : Buffer.alloc(0);
  }

  /** A name that is cut would be somebody else's: too long is an error. */
  name(field: string): string {
    const bytes = this.bytes(field);
    if (bytes.length > MAX_NAME) throw new RangeError('a name is too long');
    return bytes.toString();
  }

  bool(name: string): boolean {
    return this.#fields[name] === true;
  }

  address(ip: string, port: string): Address | undefined {
    const bytes = this.bytes(ip);
    if (bytes.length !== 4 && bytes.length !== 16) return undefined;
    const mapped = bytes.length === 16 && bytes.subarray(0, 12).equals(V4_MAPPED);
    return { host: bytesToIp(mapped ? bytes.subarray(12) : bytes), port: this.int(port) & 0xffff };
  }

  required(ip: string, port: string): Address {
    const address = this.address(ip, port);
    if (!address) throw new RangeError('an address has 4 or 16 bytes');
    return address;
  }

  versions(): Versions {
    const bytes = this.bytes('Vsn');
    return [0, 1, 2, 3, 4, 5].map((i) => bytes[i] ?? 0) as unknown as Versions;
  }
}

const V4_MAPPED = Buffer.from('00000000000000000000ffff', 'hex');
const PING_FIELDS = ['Node', 'SeqNo', 'SourceAddr', 'SourceNode', 'SourcePort'];

function pingOf(fields: Fields): Ping {
  const source = fields.address('SourceAddr', 'SourcePort');
  const sourceNode = fields.name('SourceNode');
  return { seq: fields.int('SeqNo'), node: fields.name('Node'), ...(source && source.port !== 0 && { source }), ...(sourceNode !== '' && { sourceNode }) };
}

export const decodePing = (body: Buffer): Ping => pingOf(new Fields(unpack(body).value, PING_FIELDS));

export function decodeIndirectPing(body: Buffer): IndirectPing {
  const fields = new Fields(unpack(body).value, ['Nack', 'Node', 'Port', 'SeqNo', 'SourceAddr', 'SourceNode', 'SourcePort', 'Target']);
  return { ...pingOf(fields), target: fields.required('Target', 'Port'), nack: fields.bool('Nack') };
}

export function decodeAck(body: Buffer): { seq: number; payload: Buffer } {
  const fields = new Fields(unpack(body).value, ['Payload', 'SeqNo']);
  return { seq: fields.int('SeqNo'), payload: fields.bytes('Payload') };
}

export function decodeAccusation(body: Buffer): Accusation {
  const fields = new Fields(unpack(body).value, ['From', 'Incarnation', 'Node']);
  return { incarnation: fields.int('Incarnation') >>> 0, node: fields.name('Node'), from: fields.name('From') };
}

/** What is kept for long is not kept in Node's pool, of which the smallest buffer would hold 64 KiB. */
export const ownCopy = (bytes: Uint8Array): Buffer => Buffer.from(new Uint8Array(bytes).buffer);

function aliveOf(fields: Fields, field: string): Alive {
  const node = fields.name(field);
  const meta = fields.bytes('Meta');
  if (node === '') throw new RangeError('a member has a name');
  if (meta.length > MAX_META) throw new RangeError('the meta data of a member is too long');
  return { incarnation: fields.int('Incarnation') >>> 0, node, address: fields.required('Addr', 'Port'), meta: ownCopy(meta), versions: fields.versions() };
}

export const decodeAlive = (body: Buffer): Alive => aliveOf(new Fields(unpack(body).value, ['Addr', 'Incarnation', 'Meta', 'Node', 'Port', 'Vsn']), 'Node');

/** How far a state exchange was read, so that a stream that comes in pieces is not read from the start with each. */
export interface PushPullProgress { header?: { join: boolean; count: number; userLength: number }; nodes: NodeRecord[]; at: number }

/**
 * undefined when it has read `limit` members and there are more: to be called again, with the same progress. Throws
 * Incomplete while parts are missing (a plain stream carries no length); called again with more, it goes on.
 */
export function readPushPull(body: Buffer, progress: PushPullProgress, limit: number): PushPull | undefined {
  if (!progress.header) {
    const { value, end } = unpack(body);
    const fields = new Fields(value, ['Join', 'Nodes', 'UserStateLen']);
    const header = { join: fields.bool('Join'), count: fields.int('Nodes'), userLength: fields.int('UserStateLen') };
    if (header.count < 0 || header.count > MAX_NODES || header.userLength < 0 || header.userLength > MAX_USER_BYTES) throw new RangeError('a state exchange of that size is refused');
    progress.header = header;
    progress.at = end;
  }
  const { join, count, userLength } = progress.header;
  for (const end = progress.nodes.length + limit; progress.nodes.length < count;) {
    if (progress.nodes.length === end) return undefined;
    const { value, end: at } = unpack(body, progress.at);
    const node = new Fields(value, ['Addr', 'Incarnation', 'Meta', 'Name', 'Port', 'State', 'Vsn']);
    progress.nodes.push({ ...aliveOf(node, 'Name'), state: STATES[node.int('State')] ?? 'dead' });
    progress.at = at;
  }
  return { join, nodes: progress.nodes, userState: Buffer.from(exactly(body, progress.at, userLength)) };
}

export const decodePushPull = (body: Buffer): PushPull => readPushPull(body, { nodes: [], at: 0 }, Infinity)!;

export function decodeUserStream(body: Buffer): Buffer {
  const { value, end } = unpack(body);
  const length = new Fields(value, ['UserMsgLen']).int('UserMsgLen');
  if (length < 0 || length > MAX_USER_BYTES) throw new RangeError('a message of that size is refused');
  return Buffer.from(exactly(body, end, length));
}

function exactly(body: Buffer, at: number, length: number): Buffer {
  if (at + length > body.length) throw new Incomplete();
  return body.subarray(at, at + length);
}

export const encodeError = (text: string): Buffer => typed(TYPE.error, map({ Error: raw(text) }));

export const decodeError = (body: Buffer): string => new Fields(unpack(body).value, ['Error']).bytes('Error').subarray(0, MAX_ERROR).toString();

export const encodeCompressed = (packed: Buffer): Buffer => typed(TYPE.compress, map({ Algo: uint(0), Buf: raw(packed) }));

/** What a compressed message holds; LZW is the only algorithm there is. */
export function decodeCompressed(body: Buffer): Buffer {
  const fields = new Fields(unpack(body).value, ['Algo', 'Buf']);
  if (fields.int('Algo') !== 0) throw new RangeError('compressed by an unknown algorithm');
  return fields.bytes('Buf');
}
