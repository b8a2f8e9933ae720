/**
 * The way of a query: own records of the sandbox's networks → Docker's resolver, for what only Docker knows and for
 * the outside world → the host's name servers, where there is no such resolver.
 *
 * Docker announces a container's name before its link works and keeps it after weftd has taken it back, so what it
 * says about addresses of Weft subnets is discarded: our records alone decide there.
 */
import type { Prefix4 } from '../base/ip.ts';
import type { Random } from '../base/random.ts';
import type { NameSource } from './dns.ts';
import type { Forwarder, Transport } from './forwarder.ts';
import { findAddresses, findName, type JoinedNetwork } from './lookup.ts';
import { CLASS_IN, RCODE, TYPE } from './message.ts';
import { parseQuery, type Query } from './query.ts';
import { hasAddressIn } from './reply.ts';
import { encodeFailure, encodeRejection, encodeResponse, type Answer } from './response.ts';

/** Questions of one sandbox that others may be working on. */
const MAX_FORWARDS = 1024;
const MAX_TCP_SIZE = 65_535;

export interface ChainNetworks {
  joined: readonly JoinedNetwork[];
  subnets: readonly Prefix4[];
  /** Nothing may leave for the outside. */
  internal: boolean;
}

export const OUTCOMES = ['answered', 'nodata', 'docker', 'upstream', 'discarded', 'refused', 'timeout', 'unreachable', 'rejected', 'ignored'] as const;
/** answered, nodata: from own records; docker, upstream: passed on; discarded: Docker's, about a Weft subnet; refused: too many at once. */
export type Outcome = typeof OUTCOMES[number];

export interface ChainOptions {
  names: NameSource;
  /** Those of the sandbox, as they are now. */
  networks: () => ChainNetworks;
  docker: Forwarder;
  upstreams: Forwarder;
  random: Random;
  count: (outcome: Outcome) => void;
}

/**
 * Answers one query. Own answers are written into `out` at once, and their length is returned (0: no answer is due);
 * what must be forwarded comes as a promise, which never rejects. `out` holds as much as the transport carries.
 */
export type Chain = (message: Buffer, transport: Transport, out: Buffer) => number | Promise<Buffer>;

export function createChain({ names, networks, docker, upstreams, random, count }: ChainOptions): Chain {
  let forwards = 0;

  function ownAnswer(query: Query): Answer | undefined {
    if (query.name === undefined || query.class !== CLASS_IN) return undefined;
    if (query.type === TYPE.PTR) {
      const name = findName(names, networks().joined, query.name);
      if (name !== undefined) return { kind: 'pointer', name };
    }
    const ips = findAddresses(names, networks().joined, query.name);
    if (ips.length === 0) return undefined;
    if (query.type !== TYPE.A && query.type !== TYPE.ANY) return { kind: 'nodata' };
    // Clients take the first address: each answer begins elsewhere, so that they spread.
    return { kind: 'addresses', ips, first: ips.length > 1 ? random.int(ips.length) : 0 };
  }

  async function forward(message: Buffer, query: Query, transport: Transport): Promise<Buffer> {
    const fail = (outcome: Outcome, rcode: number): Buffer => {
      count(outcome);
      return encodeFailure(message, query, rcode);
    };
    if (forwards >= MAX_FORWARDS) return fail('refused', RCODE.REFUSED);
    forwards++;
    try {
      let from: Outcome = 'docker';
      let reply = await docker.ask(message, query.end, transport);
      if (reply === 'absent' && !networks().internal) {
        from = 'upstream';
        reply = await upstreams.ask(message, query.end, transport);
      }
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
    const answer = ownAnswer(query);
    if (!answer) return forward(message, query, transport);
    count(answer.kind === 'nodata' ? 'nodata' : 'answered');
    return encodeResponse(out, message, query, RCODE.NOERROR, answer, Math.min(out.length, transport === 'udp' ? query.udpSize : MAX_TCP_SIZE));
  };
}
