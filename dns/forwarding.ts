/** What is not ours to answer: from the cache, from Docker's resolver, from the host's name servers. */
import type { Prefix } from '../base/prefix.ts';
import type { CachingForwarder, Found, NotFound } from './caching.ts';
import type { DockerResolver } from './docker-resolver.ts';
import type { Forwarder, Transport } from './forwarder.ts';
import { keptLength, writeKept } from './kept-answer.ts';
import type { JoinedNetwork } from './lookup.ts';
import { RCODE } from './message.ts';
import type { Origin } from './origin.ts';
import type { Outcome } from './outcomes.ts';
import type { Query } from './query.ts';
import { hasAddressIn, isRefusal, rcodeOf } from './reply.ts';
import { encodeFailure, encodeTruncation } from './response.ts';

/** Questions of one sandbox that others may be working on; and those of them that take sockets of the host's. */
const MAX_FORWARDS = 1024;
const MAX_UPSTREAM = 256;

/** The networks of a sandbox, as queries need them. */
export interface SandboxNetworks {
  joined: readonly JoinedNetwork[];
  /** Those that are Weft's alone: what Docker says about addresses there does not count. */
  subnets: readonly Prefix[];
  /** These and the LAN's: Docker names addresses there with a TTL of 600 s before their links work, and their containers may go at any time. */
  passing: readonly Prefix[];
  /** Docker asks name servers from inside: where there is no IPv4, it reaches none that has only that. */
  ipv4: boolean;
  /** Nothing may leave for the outside. */
  internal: boolean;
  /** On networks of others as well; undefined: nobody knows, and then nothing is kept and nothing leaves. */
  elsewhere: boolean | undefined;
}

/** Others' answers: as they give them, and by way of the cache. */
export interface Source<F extends Forwarder> { direct: F; cached: CachingForwarder }

/** Name servers for the outside world. `encrypted`: they are asked in secret; Docker's resolver, which would forward in the clear, is asked for what nobody outside can know alone. */
export interface Upstreams extends Source<Forwarder> { encrypted: boolean }

interface Reply { from: 'docker' | 'upstream'; result: Buffer | Found | NotFound }

/** Whom an answer comes from; undefined: nobody had one. */
export interface Credit { from: Origin | undefined }

export interface ForwardingOptions {
  /** Those of the sandbox, as they are now. */
  networks: () => SandboxNetworks;
  docker: Source<DockerResolver>;
  /** As they are now. */
  upstreams: () => Upstreams;
  /** Which of so many comes first. */
  beginAt: (count: number) => number;
  count: (outcome: Outcome) => void;
}

export interface Forwarding {
  /** Nothing may leave the sandbox. */
  isContained(): boolean;
  /** What can be said at once. */
  kept(message: Buffer, query: Query): Found | undefined;
  /** The answer of others, or the failure to have one; never rejects. `limit`: bytes that the client takes. `credit` is given by then. */
  forward(message: Buffer, query: Query, transport: Transport, limit: number, credit: Credit): Promise<Buffer>;
}

type Ask = (source: Source<Forwarder>) => Promise<Buffer | Found | NotFound>;

export function createForwarding({ networks, docker, upstreams, beginAt, count }: ForwardingOptions): Forwarding {
  let forwards = 0;
  let upstreamForwards = 0;

  async function askUpstreams(ask: Ask): Promise<Reply> {
    // One sandbox alone cannot take all the sockets there may be.
    if (upstreamForwards >= MAX_UPSTREAM) return { from: 'upstream', result: 'busy' };
    upstreamForwards++;
    try {
      return { from: 'upstream', result: await ask(upstreams()) };
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

  /** Of the outside's names hardly any has one label (RFC 7085). */
  const mayAskDocker = ({ name }: Query): boolean => !upstreams().encrypted || (networks().elsewhere === true && name !== undefined && !name.includes('.'));

  async function askAround(ask: Ask, query: Query): Promise<Reply> {
    if (!mayAskDocker(query)) return askUpstreams(ask);
    if (upstreams().encrypted) return { from: 'docker', result: await ask(docker) };
    const { ipv4, internal } = networks();
    return ipv4 || internal ? inTurn(ask) : together(ask);
  }

  async function forward(message: Buffer, query: Query, transport: Transport, limit: number, credit: Credit): Promise<Buffer> {
    const fail = (outcome: Outcome, rcode: number): Buffer => {
      count(outcome);
      return encodeFailure(message, query, rcode);
    };
    if (networks().internal && !mayAskDocker(query)) return fail('contained', RCODE.SERVFAIL);
    if (forwards >= MAX_FORWARDS) return fail('refused', RCODE.REFUSED);
    forwards++;
    try {
      const keeps = mayKeep(query);
      const ask: Ask = keeps ? (source) => source.cached.find(message, query) : (source) => source.direct.ask(message, query.end, transport);
      const { from, result: said } = await askAround(ask, query);
      const result = keeps && isFailure(said) ? lastResort(from, message, query) ?? said : said;
      if (typeof result === 'string') {
        const { outcome, rcode } = FAILURES[result];
        return fail(outcome, rcode);
      }
      if (Buffer.isBuffer(result)) {
        if (from === 'docker' && hasAddressIn(result, query.end, networks().subnets)) return fail('discarded', RCODE.NXDOMAIN);
        count(from);
        credit.from = ORIGIN_OF[from];
        // Over UDP servers keep to the client's size themselves; over TLS they do not look at it.
        return upstreams().encrypted && result.length > limit ? encodeTruncation(message, query) : result;
      }
      count(result.source === 'asked' ? from : result.source);
      credit.from = result.source === 'asked' ? ORIGIN_OF[from] : 'cache';
      const out = Buffer.allocUnsafe(Math.min(limit, keptLength(result.answer)));
      const { answer, age } = result;
      return out.subarray(0, writeKept(out, message, query, answer, age, beginAt(answer.survey.rotation.length), limit));
    } catch {
      // Out of descriptors or memory, or a mistake of ours: one client's answer, and not everybody's resolver.
      return fail('failed', RCODE.SERVFAIL);
    } finally {
      forwards--;
    }
  }

  /** Of those that were asked: the last asked knew it last. */
  const lastResort = (from: Reply['from'], message: Buffer, query: Query): Found | undefined =>
    (from === 'upstream' ? upstreams().cached.lastResort(message, query) : undefined) ?? docker.cached.lastResort(message, query);

  const mayKeep = (query: Query): boolean => !query.hasOptions && query.name !== undefined && (networks().elsewhere === false || !mayAskDocker(query));

  function kept(message: Buffer, query: Query): Found | undefined {
    if (!mayKeep(query)) return undefined;
    const viaUpstreams = (): Found | undefined => upstreams().cached.kept(message, query);
    if (upstreams().encrypted) return networks().internal ? undefined : viaUpstreams();
    if (docker.direct.isAbsent()) return viaUpstreams();
    const found = docker.cached.kept(message, query);
    return found ?? (networks().ipv4 ? undefined : viaUpstreams());
  }

  return { isContained: () => networks().internal && networks().elsewhere !== true, kept, forward };
}

/** Nobody knew: what was known before is better than nothing (RFC 8767 §5). */
const isFailure = (result: Buffer | Found | NotFound): boolean => (typeof result === 'string' ? result !== 'discarded' && result !== 'closed' : isRefusal(messageOf(result)));

const messageOf = (result: Buffer | Found): Buffer => (Buffer.isBuffer(result) ? result : result.answer.message);

const ORIGIN_OF: Readonly<Record<Reply['from'], Origin>> = { docker: 'docker', upstream: 'upstreams' };

const FAILURES: Readonly<Record<NotFound, { outcome: Outcome; rcode: number }>> = {
  busy: { outcome: 'refused', rcode: RCODE.REFUSED },
  timeout: { outcome: 'timeout', rcode: RCODE.SERVFAIL },
  absent: { outcome: 'unreachable', rcode: RCODE.SERVFAIL },
  closed: { outcome: 'unreachable', rcode: RCODE.SERVFAIL },
  lied: { outcome: 'lied', rcode: RCODE.SERVFAIL },
  discarded: { outcome: 'discarded', rcode: RCODE.NXDOMAIN },
};
