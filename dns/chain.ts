/**
 * The way of a query: own records of the sandbox's networks → the cache → Docker's resolver, which forwards to the container's name servers →
 * the host's name servers, where there is no such resolver.
 *
 * Docker announces a container's name before its link works and keeps it after weftd has taken it back, so what it
 * says about addresses of Weft subnets is discarded: our records alone decide there. In a sandbox that is on networks of Docker's own, too,
 * Docker may know any name itself: there it is asked every time, and nothing is kept.
 */
import type { Family, Prefix } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import type { CachingForwarder, Found, NotFound } from './caching.ts';
import type { NameSource } from './dns.ts';
import type { DockerResolver } from './docker-resolver.ts';
import type { Forwarder, Transport } from './forwarder.ts';
import { keptLength, writeKept } from './kept-answer.ts';
import { findAddresses, findName, findServices, type JoinedNetwork } from './lookup.ts';
import { RCODE, TYPE } from './message.ts';
import { parseQuery, refusalOf, type Query } from './query.ts';
import { hasAddressIn, rcodeOf } from './reply.ts';
import type { Remembered, RememberedAnswer } from './remembered.ts';
import { encodeFailure, encodeRejection, encodeResponse, type Answer } from './response.ts';

/** Questions of one sandbox that others may be working on; and those of them that take sockets of the host's. */
const MAX_FORWARDS = 1024;
const MAX_UPSTREAM = 256;
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

/** Others' answers: as they give them, and by way of the cache. */
export interface Source<F extends Forwarder> { direct: F; cached: CachingForwarder }

export const OUTCOMES = [
  'answered', 'nodata', 'cached', 'stale', 'docker', 'upstream', 'discarded', 'contained', 'refused', 'timeout', 'unreachable', 'lied', 'rejected', 'denied', 'ignored',
] as const;
/**
 * answered, nodata: from own records; cached, stale: from the cache, in and past their time; docker, upstream: passed on; discarded: Docker's,
 * about a Weft subnet; contained: an internal network's question about the outside; refused: too many at once; lied: the reply could not be
 * believed; rejected: no readable query; denied: another class, a whole zone; ignored: a response, less than a header.
 */
export type Outcome = typeof OUTCOMES[number];

interface Reply { from: 'docker' | 'upstream'; result: Buffer | Found | NotFound }

export interface ChainOptions {
  names: NameSource;
  /** Those of the sandbox, as they are now. */
  networks: () => ChainNetworks;
  /** Whether the sandbox is on networks of others as well. */
  isElsewhere: () => boolean;
  docker: Source<DockerResolver>;
  upstreams: Source<Forwarder>;
  /** Of own records, in seconds: they change whenever a container does, and clients that keep them must ask again soon. */
  ttl: number;
  /** Of this sandbox. */
  remembered: Remembered;
  random: Random;
  count: (outcome: Outcome) => void;
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

export function createChain({ names, networks, isElsewhere, docker, upstreams, ttl, remembered, random, count }: ChainOptions): Chain {
  let forwards = 0;
  let upstreamForwards = 0;

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

  type Ask = (source: Source<Forwarder>) => Promise<Buffer | Found | NotFound>;

  async function askUpstreams(ask: Ask): Promise<Reply> {
    // One sandbox alone cannot take all the sockets there may be.
    if (upstreamForwards >= MAX_UPSTREAM) return { from: 'upstream', result: 'busy' };
    upstreamForwards++;
    try {
      return { from: 'upstream', result: await ask(upstreams) };
    } finally {
      upstreamForwards--;
    }
  }

  async function inTurn(ask: Ask): Promise<Reply> {
    const result = await ask(docker);
    return result === 'absent' && !networks().internal ? askUpstreams(ask) : { from: 'docker', result };
  }

  /** What Docker knows by itself it says long before a name server can answer, and the rest may take it for ever. */
  async function together(ask: Ask): Promise<Reply> {
    const local = ask(docker).then((result): Reply => ({ from: 'docker', result }));
    const outside = askUpstreams(ask);
    const first = await Promise.race([local, outside]);
    if (first.from === 'docker' && typeof first.result !== 'string' && rcodeOf(messageOf(first.result)) === RCODE.NOERROR) return first;
    const second = await outside;
    return typeof second.result === 'string' ? local : second;
  }

  async function forward(message: Buffer, query: Query, transport: Transport, limit: number): Promise<Buffer> {
    const fail = (outcome: Outcome, rcode: number): Buffer => {
      count(outcome);
      return encodeFailure(message, query, rcode);
    };
    if (forwards >= MAX_FORWARDS) return fail('refused', RCODE.REFUSED);
    forwards++;
    try {
      const { ipv4, internal } = networks();
      const ask: Ask = mayKeep(query) ? (source) => source.cached.find(message, query) : (source) => source.direct.ask(message, query.end, transport);
      const { from, result } = await (ipv4 || internal ? inTurn(ask) : together(ask));
      if (typeof result === 'string') {
        const { outcome, rcode } = FAILURES[result];
        return fail(outcome, rcode);
      }
      if (Buffer.isBuffer(result)) {
        if (from === 'docker' && hasAddressIn(result, query.end, networks().subnets)) return fail('discarded', RCODE.NXDOMAIN);
        count(from);
        return result;
      }
      count(result.source === 'asked' ? from : result.source);
      const out = Buffer.allocUnsafe(Math.min(limit, keptLength(result.answer)));
      const { answer, age } = result;
      return out.subarray(0, writeKept(out, message, query, answer, age, beginAt(answer.survey.rotation.length), limit));
    } finally {
      forwards--;
    }
  }

  const mayKeep = (query: Query): boolean => !query.hasOptions && query.name !== undefined && !isElsewhere();

  /** At once, where that can be. */
  function kept(message: Buffer, query: Query): Found | undefined {
    if (!mayKeep(query)) return undefined;
    const viaUpstreams = (): Found | undefined => upstreams.cached.kept(message, query);
    if (docker.direct.isAbsent()) return viaUpstreams();
    const found = docker.cached.kept(message, query);
    return found ?? (networks().ipv4 ? undefined : viaUpstreams());
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
    if (networks().internal && !isElsewhere()) {
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

const messageOf = (result: Buffer | Found): Buffer => (Buffer.isBuffer(result) ? result : result.answer.message);

const FAILURES: Readonly<Record<NotFound, { outcome: Outcome; rcode: number }>> = {
  busy: { outcome: 'refused', rcode: RCODE.REFUSED },
  timeout: { outcome: 'timeout', rcode: RCODE.SERVFAIL },
  absent: { outcome: 'unreachable', rcode: RCODE.SERVFAIL },
  lied: { outcome: 'lied', rcode: RCODE.SERVFAIL },
  discarded: { outcome: 'discarded', rcode: RCODE.NXDOMAIN },
};
