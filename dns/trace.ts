/** Answers one question as a sandbox's own chain would, by way of the same sources, and tells what each of them said, or why it was not asked. */
import { weftError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import type { CachingForwarder } from './caching.ts';
import { createChain, type ChainOptions } from './chain.ts';
import type { NameTrace, SeenQuery, TraceStep } from './dns.ts';
import type { Forwarder } from './forwarder.ts';
import type { Source, Upstreams } from './forwarding.ts';
import { FLAG, HEADER, RCODE } from './message.ts';
import type { Origin } from './origin.ts';
import type { Outcome } from './outcomes.ts';
import { answerTexts, parseType, rcodeText, typeText } from './record-text.ts';
import { rcodeOf } from './reply.ts';
import { encodeName, OPT_LENGTH, writeOpt } from './response.ts';

/** What we take over UDP. */
const OUT_BYTES = 4096;

export interface TraceOptions extends Omit<ChainOptions, 'count' | 'remembered' | 'observation'> {
  clock: Clock;
  /** Docker's resolver is asked before, and sends here what it does not know. */
  isBehindDocker?: boolean;
}

type Asked = Awaited<ReturnType<CachingForwarder['find'] | Forwarder['ask']>>;

/** What was heard of a source. */
interface Heard { ms: number; found: boolean; said?: Asked | undefined }

/** The name as it is written, the final dot left out. Throws WEFT-RECORD-MALFORMED. */
export async function traceName(options: TraceOptions, name: string, typeName: string): Promise<NameTrace> {
  const { clock } = options;
  const type = parseType(typeName);
  const { message, end } = compose(name, type);
  const heard: Partial<Record<Origin, Heard>> = {};
  const note = (origin: Origin, ms: number, found: boolean, said?: Asked): void => {
    const before = heard[origin];
    heard[origin] = { ms: ms + (before?.ms ?? 0), found: found || (before?.found ?? false), said };
  };
  /** Times what a source of this node says. */
  const noted = <Args extends unknown[], Result>(origin: Origin, look: (...args: Args) => Result) => (...args: Args): Result => {
    const began = clock.now();
    const result = look(...args);
    note(origin, clock.now() - began, Array.isArray(result) ? result.length > 0 : result !== undefined);
    return result;
  };
  async function heardOf<T extends Asked>(origin: Origin, asking: Promise<T>): Promise<T> {
    const began = clock.now();
    const said = await asking;
    note(origin, clock.now() - began, typeof said !== 'string', said);
    return said;
  }
  const source = <F extends Forwarder>(origin: Origin, { direct, cached }: Source<F>): Source<F> => ({
    direct: { ...direct, ask: (message, end, transport) => heardOf(origin, direct.ask(message, end, transport)) },
    cached: { find: (message, query) => heardOf(origin, cached.find(message, query)), kept: noted('cache', cached.kept), lastResort: noted('cache', cached.lastResort) },
  });

  let outcome: Outcome | undefined;
  let seen: SeenQuery | undefined;
  const { names, records } = options;
  const outside = options.upstreams();
  const upstreams: Upstreams = { ...source('upstreams', outside), encrypted: outside.encrypted };
  const chain = createChain({
    ...options,
    names: { version: 0, addresses: noted('containers', names.addresses), services: noted('containers', names.services), nameOf: noted('containers', names.nameOf) },
    records: { version: 0, find: noted('records', records.find), findCovering: noted('records', records.findCovering), nameOf: noted('records', records.nameOf) },
    docker: source('docker', options.docker), upstreams: () => upstreams,
    remembered: { write: () => 0, add: () => {}, clear: () => {} },
    count: (what) => void (outcome = what),
    observation: { clock, took: () => {}, observer: () => (query) => void (seen = query) },
  });
  const out = Buffer.alloc(OUT_BYTES);
  const result = chain(message, 'udp', out);
  const reply = typeof result === 'number' ? out.subarray(0, result) : await result;
  const rcode = rcodeOf(reply);
  const answers = answerTexts(reply, end);
  const from = seen?.from;
  const facts: Facts = {
    heard, from, outcome, isEmpty: rcode === RCODE.NOERROR && answers.length === 0, type: typeText(type), networks: options.networks().joined.map((network) => network.name),
    keeps: options.networks().elsewhere === false, encrypted: outside.encrypted, isBehindDocker: options.isBehindDocker ?? false,
  };
  return { name, type: facts.type, rcode: rcodeText(rcode), answers, ...(from && { from }), ms: seen?.ms ?? 0, steps: [ofRecords(facts), ofContainers(facts), ofCache(facts), ofDocker(facts), ofUpstreams(facts)] };
}

interface Facts {
  heard: Partial<Record<Origin, Heard>>;
  from: Origin | undefined;
  outcome: Outcome | undefined;
  /** The name is there, such records are not. */
  isEmpty: boolean;
  type: string;
  networks: string[];
  /** What others say is kept for this sandbox. */
  keeps: boolean;
  /** The outside is asked over TLS, by weftd alone. */
  encrypted: boolean;
  isBehindDocker: boolean;
}

const step = (source: Origin, { heard }: Facts, detail: string): TraceStep => ({ source, ...(heard[source] && { ms: heard[source].ms }), detail });
const empty = ({ type }: Facts): string => `the name is there, and has no ${type} records: that is the answer`;

function ofRecords(facts: Facts): TraceStep {
  const { heard, from, isEmpty, type } = facts;
  if (from === 'records') return step('records', facts, isEmpty ? empty(facts) : 'the answer');
  if (!heard.records?.found) return step('records', facts, `none of this name, for all networks or for ${facts.networks.join(', ')}`);
  return step('records', facts, from === 'containers' ? `they have the name, but not for ${type}` : 'an alias, which leads to the outside');
}

function ofContainers(facts: Facts): TraceStep {
  const { heard, from, isEmpty } = facts;
  if (from === 'containers') return step('containers', facts, isEmpty ? empty(facts) : 'the answer');
  if (heard.containers) return step('containers', facts, `none of this name on ${facts.networks.join(', ')}`);
  return step('containers', facts, 'not asked: records of your own come first');
}

/** Why nobody else is asked. */
function settled({ from, outcome }: Facts): string | undefined {
  if (from === 'records' || from === 'containers') return 'not asked: what the cluster knows is nobody else\'s';
  if (outcome === 'contained') return 'not asked: all networks of the container are internal';
  return outcome === 'denied' || outcome === 'rejected' ? 'not asked: such questions are refused' : undefined;
}

function ofCache(facts: Facts): TraceStep {
  const why = settled(facts);
  if (why !== undefined) return step('cache', facts, why);
  if (facts.from === 'cache') return step('cache', facts, facts.outcome === 'stale' ? 'the answer: it is past its time, and nobody else answers' : 'the answer: it was asked for before');
  if (facts.heard.cache) return step('cache', facts, 'nothing is kept of it');
  return step('cache', facts, facts.keeps ? 'not asked: such questions are not kept' : 'not asked: nothing is kept, since the container is on networks of Docker\'s own, too');
}

function ofDocker(facts: Facts): TraceStep {
  const why = settled(facts);
  if (why !== undefined) return step('docker', facts, why);
  const { heard, from, outcome } = facts;
  if (facts.isBehindDocker) return { source: 'docker', detail: 'not asked: it asks this host for what it does not know' };
  if (!heard.docker) return step('docker', facts, facts.from !== 'cache' && facts.encrypted ? 'not asked: the outside is asked over TLS only' : 'not asked: it was in the cache');
  if (outcome === 'discarded') return step('docker', facts, 'it knows an address of a Weft network, which counts only from the cluster itself: no such name');
  return step('docker', facts, said(heard.docker, from === 'docker', 'nobody listens for Docker in the container'));
}

function ofUpstreams(facts: Facts): TraceStep {
  const why = settled(facts);
  if (why !== undefined) return step('upstreams', facts, why);
  const { heard, from } = facts;
  if (heard.upstreams) return step('upstreams', facts, said(heard.upstreams, from === 'upstreams', facts.encrypted ? 'none can be asked over TLS' : 'this host has none'));
  return step('upstreams', facts, heard.docker ? 'not asked: Docker\'s resolver asks the container\'s name servers' : 'not asked: it was in the cache');
}

function said({ said: result }: Heard, isAnswer: boolean, absent: string): string {
  if (result === undefined || result === 'closed') return 'it is being closed';
  if (result === 'absent') return absent;
  if (result === 'timeout') return 'no answer in time';
  if (result === 'busy') return 'too many questions are under way';
  if (result === 'lied') return 'its reply cannot be believed';
  if (result === 'discarded') return 'its answer does not count';
  if (!Buffer.isBuffer(result) && result.source !== 'asked') return 'no answer in time: what it said before is given';
  return `${isAnswer ? 'the answer' : 'it said'}: ${rcodeText(rcodeOf(Buffer.isBuffer(result) ? result : result.answer.message))}`;
}

function compose(name: string, type: number): { message: Buffer; end: number } {
  const wire = encodeName(name.replace(/\.$/, ''));
  if (!wire) throw weftError('WEFT-RECORD-MALFORMED', { what: `the name ${JSON.stringify(name)}`, detail: 'a part of it is empty or too long', hint: 'write it as db.test' });
  const end = HEADER + wire.length + 4;
  const message = Buffer.alloc(end + OPT_LENGTH);
  message.writeUInt16BE(FLAG.RD, 2);
  message.writeUInt16BE(1, 4);
  message.writeUInt16BE(1, 10);
  message.set(wire, HEADER);
  message.writeUInt16BE(type, end - 4);
  message.writeUInt16BE(1, end - 2);
  writeOpt(message, end, 0);
  return { message, end };
}
