/**
 * The way of a query: own records of the sandbox's networks → Docker's resolver, for what only Docker knows and for
 * the outside world → the host's name servers, where there is no such resolver.
 *
 * Docker announces a container's name before its link works and keeps it after weftd has taken it back, so what it
 * says about addresses of Weft subnets is discarded: our records alone decide there.
 */
import type { Family, Prefix } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import type { NameSource } from './dns.ts';
import type { Failure, Forwarder, Transport } from './forwarder.ts';
import { findAddresses, findName, findServices, type JoinedNetwork } from './lookup.ts';
import { RCODE, TYPE } from './message.ts';
import { parseQuery, refusalOf, type Query } from './query.ts';
import { hasAddressIn, rcodeOf } from './reply.ts';
import { encodeFailure, encodeRejection, encodeResponse, type Answer } from './response.ts';

/** Questions of one sandbox that others may be working on. */
const MAX_FORWARDS = 1024;
const MAX_TCP_SIZE = 65_535;

const BOTH: readonly Family[] = [4, 6];
/** Types that are answered with addresses. */
const ASKED: Readonly<Record<number, readonly Family[]>> = { [TYPE.A]: [4], [TYPE.AAAA]: [6], [TYPE.ANY]: BOTH };

export interface ChainNetworks {
  joined: readonly JoinedNetwork[];
  subnets: readonly Prefix[];
  /** Docker asks name servers from inside: where there is no IPv4, it reaches none that has only that. */
  ipv4: boolean;
  /** Nothing may leave for the outside. */
  internal: boolean;
}

export const OUTCOMES = ['answered', 'nodata', 'docker', 'upstream', 'discarded', 'refused', 'timeout', 'unreachable', 'rejected', 'denied', 'ignored'] as const;
/**
 * answered, nodata: from own records; docker, upstream: passed on; discarded: Docker's, about a Weft subnet; refused: too many at once;
 * rejected: no readable query; denied: another class, a whole zone; ignored: a response, less than a header.
 */
export type Outcome = typeof OUTCOMES[number];

interface Reply { from: 'docker' | 'upstream'; reply: Buffer | Failure }

export interface ChainOptions {
  names: NameSource;
  /** Those of the sandbox, as they are now. */
  networks: () => ChainNetworks;
  docker: Forwarder;
  upstreams: Forwarder;
  /** Of own records, in seconds: they change whenever a container does, and clients that keep them must ask again soon. */
  ttl: number;
  random: Random;
  count: (outcome: Outcome) => void;
}

/**
 * Answers one query. Own answers are written into `out` at once, and their length is returned (0: no answer is due);
 * what must be forwarded comes as a promise, which never rejects. `out` holds as much as the transport carries.
 */
export type Chain = (message: Buffer, transport: Transport, out: Buffer) => number | Promise<Buffer>;

export function createChain({ names, networks, docker, upstreams, ttl, random, count }: ChainOptions): Chain {
  let forwards = 0;

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

  /** Clients take the first address: each answer begins elsewhere, so that they spread. */
  const beginAt = (count: number): number => (count > 1 ? random.int(count) : 0);

  async function inTurn(message: Buffer, query: Query, transport: Transport): Promise<Reply> {
    const reply = await docker.ask(message, query.end, transport);
    if (reply !== 'absent' || networks().internal) return { from: 'docker', reply };
    return { from: 'upstream', reply: await upstreams.ask(message, query.end, transport) };
  }

  /** What Docker knows by itself it says long before a name server can answer, and the rest may take it for ever. */
  async function together(message: Buffer, query: Query, transport: Transport): Promise<Reply> {
    const local = docker.ask(message, query.end, transport).then((reply): Reply => ({ from: 'docker', reply }));
    const outside = upstreams.ask(message, query.end, transport).then((reply): Reply => ({ from: 'upstream', reply }));
    const first = await Promise.race([local, outside]);
    if (first.from === 'docker' && typeof first.reply !== 'string' && rcodeOf(first.reply) === RCODE.NOERROR) return first;
    const second = await outside;
    return typeof second.reply === 'string' ? local : second;
  }

  async function forward(message: Buffer, query: Query, transport: Transport): Promise<Buffer> {
    const fail = (outcome: Outcome, rcode: number): Buffer => {
      count(outcome);
      return encodeFailure(message, query, rcode);
    };
    if (forwards >= MAX_FORWARDS) return fail('refused', RCODE.REFUSED);
    forwards++;
    try {
      const { ipv4, internal } = networks();
      const { from, reply } = await (ipv4 || internal ? inTurn(message, query, transport) : together(message, query, transport));
      if (reply === 'busy') return fail('refused', RCODE.REFUSED);
      if (reply === 'timeout') return fail('timeout', RCODE.SERVFAIL);
      if (reply === 'absent') return fail('unreachable', RCODE.SERVFAIL);
      if (from === 'docker' && hasAddressIn(reply, query.end, networks().subnets)) return fail('discarded', RCODE.NXDOMAIN);
      count(from);
      return reply;
    } finally {
      forwards--;
    }
  }

  return (message, transport, out) => {
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
    const answer = ownAnswer(query);
    if (!answer) return forward(message, query, transport);
    count(answer.kind === 'nodata' ? 'nodata' : 'answered');
    return encodeResponse(out, message, query, RCODE.NOERROR, answer, limit);
  };
}
