/** memberlist's messages: one type byte and a MessagePack map with sorted fields (facts of the wire: memberlist net.go). */
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { Incomplete, bool, map, nil, raw, uint, unpack, type Packed } from './msgpack.ts';

export const TYPE = {
  ping: 0, indirectPing: 1, ack: 2, suspect: 3, alive: 4, dead: 5, pushPull: 6, compound: 7, user: 8, compress: 9, encrypt: 10, nack: 11, crc: 12, error: 13, label: 244,
} as const;

/** Protocol and delegate versions: minimum, maximum, current of each. */
export type Versions = readonly [number, number, number, number, number, number];

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
const MAX_META = 512;

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

export function encodePushPull({ join, nodes, userState }: PushPull): Buffer {
  const records = nodes.map(({ incarnation, node, address, meta, versions, state }) => map({
    Addr: raw(ipToBytes(address.host)), Incarnation: uint(incarnation), Meta: meta.length > 0 ? raw(meta) : nil, Name: raw(node), Port: uint(address.port),
    State: uint(STATES.indexOf(state)), Vsn: raw(Uint8Array.from(versions)),
  }));
  return typed(TYPE.pushPull, Buffer.concat([map({ Join: bool(join), Nodes: uint(nodes.length), UserStateLen: uint(userState.length) }), ...records, userState]));
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
    return Array.isArray(value) ? Buffer.from(value.map(Number)) : Buffer.alloc(0);
  }

  text(name: string): string {
    return this.bytes(name).subarray(0, MAX_NAME).toString();
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
  const sourceNode = fields.text('SourceNode');
  return { seq: fields.int('SeqNo'), node: fields.text('Node'), ...(source && source.port !== 0 && { source }), ...(sourceNode !== '' && { sourceNode }) };
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
  return { incarnation: fields.int('Incarnation') >>> 0, node: fields.text('Node'), from: fields.text('From') };
}

function aliveOf(fields: Fields, name: string): Alive {
  return { incarnation: fields.int('Incarnation') >>> 0, node: fields.text(name), address: fields.required('Addr', 'Port'), meta: Buffer.from(fields.bytes('Meta').subarray(0, MAX_META)), versions: fields.versions() };
}

export const decodeAlive = (body: Buffer): Alive => aliveOf(new Fields(unpack(body).value, ['Addr', 'Incarnation', 'Meta', 'Node', 'Port', 'Vsn']), 'Node');

/** Throws Incomplete while parts are missing: a plain stream carries no length. */
export function decodePushPull(body: Buffer): PushPull {
  const header = unpack(body);
  const fields = new Fields(header.value, ['Join', 'Nodes', 'UserStateLen']);
  const count = fields.int('Nodes');
  const userLength = fields.int('UserStateLen');
  if (count < 0 || count > MAX_NODES || userLength < 0 || userLength > MAX_USER_BYTES) throw new RangeError('a state exchange of that size is refused');
  const nodes: NodeRecord[] = [];
  let at = header.end;
  for (let i = 0; i < count; i++) {
    const { value, end } = unpack(body, at);
    const node = new Fields(value, ['Addr', 'Incarnation', 'Meta', 'Name', 'Port', 'State', 'Vsn']);
    nodes.push({ ...aliveOf(node, 'Name'), state: STATES[node.int('State')] ?? 'dead' });
    at = end;
  }
  return { join: fields.bool('Join'), nodes, userState: Buffer.from(exactly(body, at, userLength)) };
}

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

export function decodeError(body: Buffer): string {
  return new Fields(unpack(body).value, ['Error']).text('Error');
}
