/**
 * The way of a query: the operator's records and the names on the sandbox's networks → the cache → Docker's resolver, which forwards to the
 * container's name servers → the host's name servers, where there is no such resolver.
 *
 * Docker announces a container's name before its link works and keeps it after weftd has taken it back, so what it
 * says about addresses of Weft subnets is discarded: our records alone decide there. In a sandbox that is on networks of Docker's own, too,
 * Docker may know any name itself: there it is asked every time, and nothing is kept.
 */
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { encodeAliased, questionFor } from './aliased.ts';
import type { NameSource, SeenQuery } from './dns.ts';
import type { Transport } from './forwarder.ts';
import { createForwarding, type Credit, type ForwardingOptions } from './forwarding.ts';
import { keptLength, writeKept } from './kept-answer.ts';
import { answerLocally, type LocalOptions } from './local-answer.ts';
import type { JoinedNetwork } from './lookup.ts';
import { RCODE } from './message.ts';
import type { Origin } from './origin.ts';
import type { RecordSource } from './own-records.ts';
import { parseQuery, type Query } from './query.ts';
import { NOTHING_KNOWN, type KnownAnswers, type Remembered, type RememberedAnswer } from './remembered.ts';
import { rcodeOf } from './reply.ts';
import { createResponder, MAX_TCP_SIZE, type Chain, type Responder } from './responder.ts';
import { encodeFailure, encodeResponse, type Alias, type Answer } from './response.ts';

export interface Observation {
  clock: Pick<Clock, 'now'>;
  /** What was answered at once from a source of this node. Answers that are given again in the same bytes are not timed. */
  took(from: Origin, ms: number): void;
  /** Who wants to hear of each query now. */
  observer(): ((seen: SeenQuery) => void) | undefined;
}

export interface ChainOptions extends Omit<ForwardingOptions, 'beginAt'> {
  names: NameSource;
  records: RecordSource;
  /** Of own records, in seconds: they change whenever a container does, and clients that keep them must ask again soon. */
  ttl: number;
  /** Of this sandbox. */
  remembered: Remembered;
  random: Random;
  observation?: Observation;
}

export function createChain({ names, records, ttl, remembered, random, observation, ...options }: ChainOptions): Chain {
  const { networks, count } = options;
  /** Clients take the first address: each answer begins elsewhere, so that they spread. */
  const beginAt = (of: number): number => (of > 1 ? random.int(of) : 0);
  const { isContained, kept, forward } = createForwarding({ ...options, beginAt });

  const uses: Readonly<Record<'answered' | 'nodata' | 'cached', () => void>> = { answered: () => count('answered'), nodata: () => count('nodata'), cached: () => count('cached') };
  const here: LocalOptions = { names, records, ttl, beginAt, get joined() { return networks().joined; } };
  /** Of all that own answers come from. */
  const versionNow = (): number => names.version + records.version;
  let version = -1;
  let joined: readonly JoinedNetwork[] | undefined;

  function known(): KnownAnswers {
    if (observation?.observer()) return NOTHING_KNOWN;
    if (version === versionNow() && joined === networks().joined) return remembered;
    remembered.clear();
    version = versionNow();
    ({ joined } = networks());
    return remembered;
  }

  /** The operator's name for one that others know. */
  async function followed(message: Buffer, query: Query, { aliases, elsewhere }: { aliases: readonly Alias[]; elsewhere: string }, transport: Transport, limit: number, given: Credit): Promise<Buffer> {
    const asked = questionFor(message, query, elsewhere);
    const target = parseQuery(asked);
    if (typeof target === 'string' || 'rcode' in target) return encodeFailure(message, query, RCODE.SERVFAIL);
    const found = kept(asked, target);
    if (!found) return encodeAliased(message, query, aliases, await forward(asked, target, transport, MAX_TCP_SIZE, given), target.end, limit);
    const reply = Buffer.allocUnsafe(keptLength(found.answer));
    writeKept(reply, asked, target, found.answer, found.age, beginAt(found.answer.survey.rotation.length), reply.length);
    count(found.source === 'stale' ? 'stale' : 'cached');
    given.from = 'cache';
    return encodeAliased(message, query, aliases, reply, target.end, limit);
  }

  /** Of the question in hand; given before `answer` returns where it is answered at once. */
  let credit: Credit = { from: undefined };

  const answer = createResponder(count, (query, limit, message, transport, out) => {
    const remember = (length: number, how: RememberedAnswer): void => {
      if (transport === 'udp' && version === versionNow() && joined === networks().joined) remembered.add(message, out.subarray(0, length), how);
    };
    const local = query.name === undefined ? undefined : answerLocally(here, query.name, query.type);
    if (local && 'answer' in local) {
      credit.from = local.from;
      const outcome = local.answer.kind === 'nodata' ? 'nodata' : 'answered';
      const length = encodeResponse(out, message, query, RCODE.NOERROR, local.answer, limit);
      remember(length, { ...turnOf(local.answer), until: Infinity, onUse: uses[outcome] });
      count(outcome);
      return length;
    }
    if (isContained()) {
      count('contained');
      return encodeResponse(out, message, query, RCODE.SERVFAIL, undefined, limit);
    }
    if (local) return followed(message, query, local, transport, limit, credit);
    const found = kept(message, query);
    if (!found) return forward(message, query, transport, limit, credit);
    credit.from = 'cache';
    const turns = found.answer.survey.rotation.length;
    const turn = beginAt(turns);
    const length = writeKept(out, message, query, found.answer, found.age, turn, limit);
    if (found.source === 'cached') remember(length, { turns: turns || 1, turn, until: found.until, onUse: uses.cached });
    count(found.source === 'stale' ? 'stale' : 'cached');
    return length;
  });

  const observed = ({ clock, took, observer }: Observation): Responder => (message, transport, out) => {
    const given: Credit = { from: undefined };
    credit = given;
    const began = clock.now();
    const result = answer(message, transport, out);
    const now = clock.now();
    if (given.from !== undefined && typeof result === 'number') took(given.from, now - began);
    const report = observer();
    if (!report) return result;
    const query = parseQuery(message);
    if (typeof query === 'string' || 'rcode' in query) return result;
    const seen = { name: query.key, type: query.type, transport };
    if (typeof result === 'number') {
      report({ ...seen, from: given.from, rcode: rcodeOf(out), ms: now - began });
      return result;
    }
    return result.then((reply) => {
      report({ ...seen, from: given.from, rcode: rcodeOf(reply), ms: clock.now() - began });
      return reply;
    });
  };

  return Object.assign(observation ? observed(observation) : answer, { known });
}

/** In which of its orders an answer is given. */
function turnOf(answer: Answer): { turns: number; turn: number } {
  if (answer.kind === 'addresses') return { turns: answer.near ?? answer.ips.length, turn: answer.first };
  if (answer.kind === 'services') return { turns: answer.near, turn: answer.first };
  return answer.kind === 'records' ? { turns: answer.records.length, turn: answer.first } : { turns: 1, turn: 0 };
}
