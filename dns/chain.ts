/**
 * The way of a query: own records of the sandbox's networks → the cache → Docker's resolver, which forwards to the container's name servers →
 * the host's name servers, where there is no such resolver.
 *
 * Docker announces a container's name before its link works and keeps it after weftd has taken it back, so what it
 * says about addresses of Weft subnets is discarded: our records alone decide there. In a sandbox that is on networks of Docker's own, too,
 * Docker may know any name itself: there it is asked every time, and nothing is kept.
 */
import type { Family } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import type { NameSource } from './dns.ts';
import type { Transport } from './forwarder.ts';
import { createForwarding, type ForwardingOptions } from './forwarding.ts';
import { writeKept } from './kept-answer.ts';
import { findAddresses, findName, findServices, type JoinedNetwork } from './lookup.ts';
import { RCODE, TYPE } from './message.ts';
import { parseQuery, refusalOf, type Query } from './query.ts';
import type { Remembered, RememberedAnswer } from './remembered.ts';
import { encodeRejection, encodeResponse, type Answer } from './response.ts';

const MAX_TCP_SIZE = 65_535;

const BOTH: readonly Family[] = [4, 6];
/** Types that are answered with addresses. */
const ASKED: Readonly<Record<number, readonly Family[]>> = { [TYPE.A]: [4], [TYPE.AAAA]: [6], [TYPE.ANY]: BOTH };

export interface ChainOptions extends Omit<ForwardingOptions, 'beginAt'> {
  names: NameSource;
  /** Of own records, in seconds: they change whenever a container does, and clients that keep them must ask again soon. */
  ttl: number;
  /** Of this sandbox. */
  remembered: Remembered;
  random: Random;
}

/**
 * Answers one query. Own answers are written into `out` at once, and their length is returned (0: no answer is due);
 * what must be forwarded comes as a promise, which never rejects. `out` holds as much as the transport carries.
 */
export type Responder = (message: Buffer, transport: Transport, out: Buffer) => number | Promise<Buffer>;

export type Chain = Responder & {
  /** Over UDP: writes the answer to the question in the first `length` bytes where the same was asked before; 0: ask the chain. */
  again(message: Buffer, length: number, out: Buffer): number;
};

export function createChain({ names, ttl, remembered, random, ...options }: ChainOptions): Chain {
  const { networks, count } = options;
  /** Clients take the first address: each answer begins elsewhere, so that they spread. */
  const beginAt = (of: number): number => (of > 1 ? random.int(of) : 0);
  const { isContained, kept, forward } = createForwarding({ ...options, beginAt });

  function ownAnswer(query: Query): Answer | undefined {
    if (query.name === undefined) return undefined;
    if (query.type === TYPE.PTR) {
      const name = findName(names, networks().joined, query.name);
      if (name !== undefined) return { kind: 'pointer', name, ttl };
    }
    if (query.type === TYPE.SRV) {
      const targets = findServices(names, networks().joined, query.name);
      if (targets) return targets.length === 0 ? { kind: 'nodata' } : { kind: 'services', targets, first: beginAt(targets.length), ttl };
    }
    const ips = findAddresses(names, networks().joined, query.name, ASKED[query.type] ?? BOTH);
    if (!ips) return undefined;
    if (ips.length === 0 || !(query.type in ASKED)) return { kind: 'nodata' };
    return { kind: 'addresses', ips, first: beginAt(ips.length), ttl };
  }

  const uses: Readonly<Record<'answered' | 'nodata' | 'cached', () => void>> = { answered: () => count('answered'), nodata: () => count('nodata'), cached: () => count('cached') };
  let version = -1;
  let joined: readonly JoinedNetwork[] | undefined;

  function again(message: Buffer, length: number, out: Buffer): number {
    if (version === names.version && joined === networks().joined) return remembered.write(message, length, out);
    remembered.clear();
    ({ version } = names);
    ({ joined } = networks());
    return 0;
  }

  const respond: Responder = (message, transport, out) => {
    const query = parseQuery(message);
    if (query === 'silence') {
      count('ignored');
      return 0;
    }
    if ('rcode' in query) {
      count('rejected');
      return encodeRejection(out, message, query.rcode);
    }
    const limit = Math.min(out.length, transport === 'udp' ? query.udpSize : MAX_TCP_SIZE);
    const refusal = refusalOf(query);
    if (refusal !== undefined) {
      count('denied');
      return encodeResponse(out, message, query, refusal, undefined, limit);
    }
    const remember = (length: number, how: RememberedAnswer): void => {
      if (transport === 'udp' && version === names.version && joined === networks().joined) remembered.add(message, out.subarray(0, length), how);
    };
    const answer = ownAnswer(query);
    if (answer) {
      const outcome = answer.kind === 'nodata' ? 'nodata' : 'answered';
      const length = encodeResponse(out, message, query, RCODE.NOERROR, answer, limit);
      remember(length, { ...turnOf(answer), until: Infinity, onUse: uses[outcome] });
      count(outcome);
      return length;
    }
    if (isContained()) {
      count('contained');
      return encodeResponse(out, message, query, RCODE.SERVFAIL, undefined, limit);
    }
    const found = kept(message, query);
    if (!found) return forward(message, query, transport, limit);
    const turns = found.answer.survey.rotation.length;
    const turn = beginAt(turns);
    const length = writeKept(out, message, query, found.answer, found.age, turn, limit);
    if (found.source === 'cached') remember(length, { turns: turns || 1, turn, until: found.until, onUse: uses.cached });
    count(found.source === 'stale' ? 'stale' : 'cached');
    return length;
  };
  return Object.assign(respond, { again });
}

/** In which of its orders an answer is given. */
function turnOf(answer: Answer): { turns: number; turn: number } {
  if (answer.kind === 'addresses') return { turns: answer.ips.length, turn: answer.first };
  return answer.kind === 'services' ? { turns: answer.targets.length, turn: answer.first } : { turns: 1, turn: 0 };
}
