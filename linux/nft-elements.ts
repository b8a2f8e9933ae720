/**
 * Elements of nftables sets and maps as raw transactions (20 µs, however large the set is). The structure around
 * them is libnftables' business (nft.ts). Numbers from linux/netfilter/nf_tables.h.
 *
 * Not for sets with `flags interval`: there an element without a second one for its end reaches to the highest key.
 */
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { bytesToIp, ipToBytes } from '../base/ip.ts';
import { attribute, eachAttribute, nested, optional, parseAttributes, readText, text } from './attributes.ts';
import { NLM_F_CREATE, type Message } from './netlink-message.ts';
import { NETLINK_NETFILTER, openNetlink } from './netlink-socket.ts';
import { be32, NFNL_SUBSYS_NFTABLES, nfgenmsg, readBe32, transact, TransactionError } from './nfnetlink.ts';
import type { Netns } from './types.ts';

const MSG = { NEWSETELEM: 12, GETSETELEM: 13, DELSETELEM: 14 } as const;
const LIST = { TABLE: 1, SET: 2, ELEMENTS: 3 } as const;
const ELEM = { KEY: 1, DATA: 2 } as const;
const DATA = { VALUE: 1, VERDICT: 2 } as const;
const VERDICT = { CODE: 1, CHAIN: 2 } as const;
const NFTA_LIST_ELEM = 1;
const NFT_JUMP = -3;
const FAMILIES = { inet: 1, ip: 2 } as const;

export interface SetName { family: keyof typeof FAMILIES; table: string; name: string }

/** A set whose elements are an E, found by their K. Made by portMap, addressSet and backendMap. */
export interface ElementSet<K, E extends K> extends SetName {
  encodeKey(key: K): Buffer;
  encodeData?(element: E): Buffer;
  /** undefined for an element that nobody here has made. */
  decode(key: Buffer, data: Buffer): E | undefined;
}

/** All of them act on their elements, each named once, together or not at all, and throw TransactionError whose `refused` are positions in the list. */
export interface Elements {
  /** Existing with the same value is not an error; with another value EEXIST. */
  add<K, E extends K>(set: ElementSet<K, E>, elements: readonly NoInfer<E>[]): void;
  /** Enters them with their value, whatever was there before: no packet sees the map without them. */
  replace<K, E extends K>(set: ElementSet<K, E>, elements: readonly NoInfer<E>[]): void;
  /** Missing is not an error, nor is a missing set. */
  remove<K, E extends K>(set: ElementSet<K, E>, keys: readonly NoInfer<K>[]): void;
  /** Throws ENOENT without the set. */
  list<K, E extends K>(set: ElementSet<K, E>): E[];
  close(): void;
}

export interface PortKey { protocol: 'tcp' | 'udp'; port: number }
export interface PortVerdict extends PortKey { chain: string }

/** `map { type inet_proto . inet_service : verdict; }`, its verdicts `jump CHAIN`. */
export const portMap = (name: SetName): ElementSet<PortKey, PortVerdict> => ({
  ...name,
  // Each field of a concatenation is padded to four bytes.
  encodeKey: ({ protocol, port }) => Buffer.from([IP_PROTOCOL[protocol], 0, 0, 0, port >>> 8, port & 255, 0, 0]),
  encodeData: ({ chain }) => nested(DATA.VERDICT, be32(VERDICT.CODE, NFT_JUMP), text(VERDICT.CHAIN, chain)),
  decode: (key, data) => {
    const protocol = key[0] === IP_PROTOCOL.tcp ? 'tcp' : key[0] === IP_PROTOCOL.udp ? 'udp' : undefined;
    const verdict = parseAttributes(parseAttributes(data).get(DATA.VERDICT) ?? Buffer.alloc(0));
    const chain = readText(verdict.get(VERDICT.CHAIN));
    if (!protocol || key.length !== 8 || chain === undefined || readBe32(verdict.get(VERDICT.CODE)) !== NFT_JUMP) return undefined;
    return { protocol, port: key.readUInt16BE(4), chain };
  },
});

/** `set { type ipv4_addr; }`. */
export const addressSet = (name: SetName): ElementSet<string, string> => ({
  ...name,
  encodeKey: (ip) => Buffer.from(ipToBytes(ip)),
  decode: (key) => (key.length === 4 ? bytesToIp(key) : undefined),
});

export interface Slot { slot: number }
export interface Backend extends Slot { ip: string; port: number }

/** `map { typeof numgen random mod N : ip daddr . tcp dport; }` (or `type mark : ipv4_addr . inet_service`): numbers in host order. */
export const backendMap = (name: SetName): ElementSet<Slot, Backend> => ({
  ...name,
  encodeKey: ({ slot }) => {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(slot, 0);
    return key;
  },
  encodeData: ({ ip, port }) => attribute(DATA.VALUE, Buffer.from([...ipToBytes(ip), port >>> 8, port & 255, 0, 0])),
  decode: (key, data) => {
    const value = parseAttributes(data).get(DATA.VALUE);
    if (key.length !== 4 || value?.length !== 8) return undefined;
    return { slot: key.readUInt32LE(0), ip: bytesToIp(value.subarray(0, 4)), port: value.readUInt16BE(4) };
  },
});

/** A message for the element at `index` of the list. */
interface Step { index: number; message: Message }

export function openElements(netns: Netns): Elements {
  const socket = openNetlink(netns, NETLINK_NETFILTER);

  function apply(set: SetName, steps: readonly Step[]): void {
    const what = `change the elements of ${set.family} ${set.table} ${set.name}`;
    if (steps.length === 0) return;
    try {
      transact(socket.fd, what, steps.map(({ message }) => message));
    } catch (error) {
      if (!(error instanceof TransactionError)) throw error;
      throw new TransactionError(what, error.refused.map(({ index, error }) => ({ index: steps[index]!.index, error })));
    }
  }

  const step = (set: SetName, index: number, type: number, element: Buffer[]): Step => ({ index, message: message(set, type, element) });
  const additions = <K, E extends K>(set: ElementSet<K, E>, elements: readonly E[]): Step[] => elements.map((element, i) =>
    step(set, i, MSG.NEWSETELEM, [...keyOf(set, element), ...optional(set.encodeData, (encode) => nested(ELEM.DATA, encode(element)))]));

  /** Of what is there: asking is cheap (4 µs each), but to take back a transaction that was refused the kernel needs 8 ms. */
  function removals<K, E extends K>(set: ElementSet<K, E>, keys: readonly K[]): Step[] {
    const elements = keys.map((key) => keyOf(set, key));
    const absent = new Set<number>();
    for (const { index, error } of socket.batch('look elements up', elements.map((element) => message(set, MSG.GETSETELEM, element)))) {
      if (error.code !== 'ENOENT') throw error;
      absent.add(index);
    }
    return elements.flatMap((element, i) => (absent.has(i) ? [] : [step(set, i, MSG.DELSETELEM, element)]));
  }

  return {
    add: (set, elements) => apply(set, additions(set, elements)),
    replace: (set, elements) => apply(set, [...removals(set, elements), ...additions(set, elements)]),
    remove: (set, keys) => apply(set, removals(set, keys)),
    list: (set) => socket.dump(`list the elements of ${set.family} ${set.table} ${set.name}`, typeOf(MSG.GETSETELEM), listBody(set))
      .flatMap(({ body }) => [...eachAttribute(parseAttributes(body.subarray(4)).get(LIST.ELEMENTS) ?? Buffer.alloc(0))])
      .flatMap(([, payload]) => decodeElement(set, payload) ?? []),
    close: () => socket.close(),
  };
}

const typeOf = (type: number): number => (NFNL_SUBSYS_NFTABLES << 8) | type;
const message = (set: SetName, type: number, element: Buffer[]): Message =>
  ({ type: typeOf(type), flags: type === MSG.NEWSETELEM ? NLM_F_CREATE : 0, body: listBody(set, element) });
const keyOf = <K, E extends K>(set: ElementSet<K, E>, key: K): Buffer[] => [nested(ELEM.KEY, attribute(DATA.VALUE, set.encodeKey(key)))];

const listBody = ({ family, table, name }: SetName, element?: Buffer[]): Buffer => Buffer.concat([
  nfgenmsg(FAMILIES[family]), text(LIST.TABLE, table), text(LIST.SET, name),
  ...optional(element, (parts) => nested(LIST.ELEMENTS, nested(NFTA_LIST_ELEM, ...parts))),
]);

function decodeElement<K, E extends K>(set: ElementSet<K, E>, payload: Buffer): E | undefined {
  const attributes = parseAttributes(payload);
  const key = parseAttributes(attributes.get(ELEM.KEY) ?? Buffer.alloc(0)).get(DATA.VALUE);
  return key && set.decode(key, attributes.get(ELEM.DATA) ?? Buffer.alloc(0));
}
