/**
 * Membership by gossip: SWIM with Lifeguard's suspicion, in memberlist's bytes. Probes find failures, news travels
 * piggybacked and in gossip rounds, whole states are exchanged now and then; everything is sealed where there is a key.
 */
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { shuffle, type Random } from '../base/random.ts';
import { COMPOUND_OVERHEAD, compound, messagesOf, openPacket, openStream, sealPacket, sealStream, withChecksum } from './framing.ts';
import { SEAL_OVERHEAD, type Keyring } from './keyring.ts';
import { Members, type Member } from './members.ts';
import {
  TYPE, decodeAccusation, decodeAck, decodeAlive, decodeError, decodeIndirectPing, decodePing, decodePushPull, decodeUserStream, encodeAccusation, encodeAck,
  encodeAlive, encodeIndirectPing, encodeNack, encodePing, encodePushPull, encodeUserPacket, encodeUserStream, type Accusation, type Address, type Alive, type PushPull, type Versions,
} from './messages.ts';
import { Incomplete } from './msgpack.ts';
import { BroadcastQueue } from './queue.ts';
import type { Stream, Transport } from './transport.ts';
import { LAN, pushPullScale, retransmitLimit, suspicionTimeout, type Tuning } from './tuning.ts';

export interface Delegate {
  /** A user message; the buffer is the handler's. */
  onMessage?(message: Buffer, from: string | undefined): void;
  /** What goes along with a state exchange, and what came with the other side's. */
  localState?(): Uint8Array;
  mergeState?(state: Buffer): void;
  /** join: alive now; leave: failed or left (see its state); update: other meta or address; suspect: accused, not yet failed. */
  onMember?(event: 'join' | 'leave' | 'update' | 'suspect', member: Member): void;
}

export interface GossipOptions {
  /** Unique in the cluster. */
  name: string;
  transport: Transport;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Absent: everything travels in the clear. */
  keyring?: Keyring | undefined;
  meta?: Uint8Array;
  versions?: Versions;
  tuning?: Partial<Tuning>;
  delegate?: Delegate;
}

/** Protocol 1 to 5, speaking 2 (memberlist's numbers); no delegate protocol. */
const VERSIONS: Versions = [1, 5, 2, 0, 0, 0];
const MAX_STREAM_BYTES = 32 << 20;
const MAX_AWARENESS = 7;

export interface Gossip {
  readonly name: string;
  members(): Member[];
  member(name: string): Member | undefined;
  /** Exchanges states with each address; resolves with how many answered and what the others said. */
  join(addresses: readonly Address[]): Promise<{ joined: number; errors: Error[] }>;
  /** Addresses that are tried again for ever while none of them is a live member. */
  setSeeds(seeds: () => Promise<readonly Address[]>): void;
  /** One packet, at once, without knowing whether it arrives. The message must fit (see room). */
  sendBestEffort(name: string, message: Uint8Array): void;
  /** By stream; rejects when it could not be delivered. */
  sendReliable(name: string, message: Uint8Array): Promise<void>;
  /** Bytes that a best-effort message may have. */
  readonly room: number;
  /** 0 when this node's own probes and answers come in time. */
  readonly health: number;
  /** Says goodbye; others see left instead of failed. */
  leave(timeoutMs: number): Promise<void>;
  close(): Promise<void>;
}

export function createGossip(options: GossipOptions): Gossip {
  const { name, transport, clock, random, log, keyring, delegate } = options;
  const tuning: Tuning = { ...LAN, ...options.tuning };
  const members = new Members();
  const queue = new BroadcastQueue();
  const meta = Buffer.from(options.meta ?? []);
  const suspicions = new Map<string, { timer: unknown; confirmers: Set<string>; start: number }>();
  const acks = new Map<number, { ack: (payload: Buffer) => void; nack: () => void }>();
  const timers = new Set<unknown>();
  let seeds: () => Promise<readonly Address[]> = async () => [];
  let sequence = random.int(2 ** 32);
  // A restarted node must outbid whatever was said of it before: seconds grow faster than refutations.
  let incarnation = Math.floor(clock.wallNow() / 1000) >>> 0;
  let awareness = 0;
  let probeList: string[] = [];
  let leaving = false;
  let closed = false;

  const nextSequence = (): number => (sequence = (sequence + 1) >>> 0);
  const self = (): Alive => ({ incarnation, node: name, address: transport.address, meta, versions: options.versions ?? VERSIONS });
  const others = (...states: Member['state'][]): Member[] => members.all().filter((member) => member.name !== name && states.includes(member.state));
  const room = tuning.packetBytes - COMPOUND_OVERHEAD - (keyring ? SEAL_OVERHEAD : 0);

  // Timers ------------------------------------------------------------------------------------------------------------

  function after(delayMs: number, run: () => void): unknown {
    const timer = clock.setTimeout(() => {
      timers.delete(timer);
      if (!closed) run();
    }, delayMs);
    timers.add(timer);
    return timer;
  }

  function cancel(timer: unknown): void {
    timers.delete(timer);
    clock.clearTimeout(timer as never);
  }

  /** Starts at a random moment of the interval, so that nodes started together do not act together. */
  function loop(interval: () => number, turn: () => void | Promise<void>): void {
    const next = async (): Promise<void> => {
      try {
        await turn();
      } catch (error) {
        log.warn({ detail: errorText(error) }, 'a gossip round failed');
      }
      if (!closed) after(interval(), () => void next());
    };
    after(random.float() * interval(), () => void next());
  }

  // Packets -----------------------------------------------------------------------------------------------------------

  function sendPacket(to: Address, messages: readonly Buffer[], checksum: boolean): void {
    if (closed || messages.length === 0) return;
    const packet = compound(messages);
    transport.send(sealPacket(checksum ? withChecksum(packet) : packet, keyring, random), to);
  }

  /** A message and whatever news fits beside it. */
  function sendWithNews(to: Address, message: Buffer): void {
    sendPacket(to, [message, ...news(room - message.length - 2)], false);
  }

  const news = (bytes: number): Buffer[] => queue.take(bytes, retransmitLimit(tuning.retransmitMult, members.size));

  transport.onPacket((packet, from) => {
    if (closed) return;
    try {
      const opened = openPacket(packet, keyring);
      // Not ours, or of another key: told to nobody, or anybody could make us talk.
      if (!opened) return;
      for (const message of messagesOf(opened)) handle(message, from);
    } catch (error) {
      log.debug({ from: from.host, detail: errorText(error) }, 'a packet made no sense');
    }
  });

  function handle(message: Buffer, from: Address): void {
    const body = message.subarray(1);
    switch (message[0]) {
      case TYPE.ping: return onPing(body, from);
      case TYPE.indirectPing: return onIndirectPing(body, from);
      case TYPE.ack: {
        const { seq, payload } = decodeAck(body);
        return acks.get(seq)?.ack(payload);
      }
      case TYPE.nack: return acks.get(decodeAck(body).seq)?.nack();
      case TYPE.alive: return onAlive(decodeAlive(body));
      case TYPE.suspect: return onSuspect(decodeAccusation(body));
      case TYPE.dead: return onDead(decodeAccusation(body));
      case TYPE.user: return delegate?.onMessage?.(Buffer.from(body), members.all().find((member) => member.address.host === from.host && member.address.port === from.port)?.name);
      default: return log.debug({ type: message[0] }, 'a message of an unknown type');
    }
  }

  function onPing(body: Buffer, from: Address): void {
    const ping = decodePing(body);
    if (ping.node !== '' && ping.node !== name) return;
    sendPacket(ping.source ?? from, [encodeAck(ping.seq)], false);
  }

  /** Probes for somebody else; the answer goes back under their number. */
  function onIndirectPing(body: Buffer, from: Address): void {
    const request = decodeIndirectPing(body);
    const back = request.source ?? from;
    const seq = nextSequence();
    const timer = after(tuning.probeTimeout, () => {
      acks.delete(seq);
      if (request.nack) sendPacket(back, [encodeNack(request.seq)], false);
    });
    acks.set(seq, {
      ack: () => {
        cancel(timer);
        acks.delete(seq);
        sendPacket(back, [encodeAck(request.seq)], false);
      },
      nack: () => {},
    });
    sendWithNews(request.target, encodePing({ seq, node: request.node, sourceNode: name, source: transport.address }));
  }

  // What is believed --------------------------------------------------------------------------------------------------

  function announce(member: Member | undefined, message: Buffer, event: 'join' | 'leave' | 'update' | 'suspect'): void {
    if (!member) return;
    queue.add(message, member.name);
    delegate?.onMember?.(event, member);
  }

  function endSuspicion(node: string): void {
    const suspicion = suspicions.get(node);
    if (suspicion) cancel(suspicion.timer);
    suspicions.delete(node);
  }

  function onAlive(word: Alive): void {
    if (word.node === name) return refute(word.incarnation, !word.meta.equals(meta) || word.incarnation > incarnation);
    if (word.versions[0] === 0 && word.versions[1] === 0) return;
    const before = members.get(word.node);
    const member = members.alive(word, clock.now());
    if (!member) {
      // An old word of a node that is thought gone: it does not know, and is told.
      if (before && (before.state === 'dead' || before.state === 'suspect') && word.incarnation <= before.incarnation) {
        sendPacket(word.address, [encodeAccusation(before.state, { incarnation: before.incarnation, node: before.name, from: name })], true);
      }
      return;
    }
    endSuspicion(word.node);
    const returned = !before || before.state === 'dead' || before.state === 'left';
    announce(member, encodeAlive(word), returned ? 'join' : 'update');
  }

  /** Word about ourselves that is not ours: outbid it. */
  function refute(theirs: number, needed: boolean): void {
    if (!needed || leaving || theirs < incarnation) return;
    incarnation = (Math.max(incarnation, theirs) + 1) >>> 0;
    awareness = Math.min(MAX_AWARENESS, awareness + 1);
    members.alive(self(), clock.now());
    queue.add(encodeAlive(self()), name);
  }

  function onSuspect(word: Accusation): void {
    if (word.node === name) return refute(word.incarnation, word.incarnation >= incarnation);
    const suspicion = suspicions.get(word.node);
    if (suspicion && word.incarnation >= (members.get(word.node)?.incarnation ?? 0)) {
      const expected = tuning.suspicionMult - 2;
      if (suspicion.confirmers.has(word.from) || suspicion.confirmers.size > expected) return;
      suspicion.confirmers.add(word.from);
      queue.add(encodeAccusation('suspect', word), word.node);
      cancel(suspicion.timer);
      const elapsed = clock.now() - suspicion.start;
      suspicion.timer = after(Math.max(0, suspicionTimeout(tuning, members.size, suspicion.confirmers.size - 1) - elapsed), () => fail(word.node));
      return;
    }
    const member = members.suspect(word.node, word.incarnation, clock.now());
    if (!member) return;
    suspicions.set(word.node, { confirmers: new Set([word.from]), start: clock.now(), timer: after(suspicionTimeout(tuning, members.size, 0), () => fail(word.node)) });
    announce(member, encodeAccusation('suspect', word), 'suspect');
  }

  function fail(node: string): void {
    const member = members.get(node);
    if (member?.state === 'suspect') onDead({ node, incarnation: member.incarnation, from: name });
  }

  function onDead(word: Accusation): void {
    if (word.node === name) return refute(word.incarnation, word.incarnation >= incarnation);
    const member = members.dead(word.node, word.incarnation, word.from === word.node, clock.now());
    if (!member) return;
    endSuspicion(word.node);
    announce(member, encodeAccusation('dead', word), 'leave');
  }

  // Probing -----------------------------------------------------------------------------------------------------------

  function nextToProbe(): Member | undefined {
    for (let turn = 0; turn < 2; turn++) {
      while (probeList.length > 0) {
        const member = members.get(probeList.pop()!);
        if (member && member.name !== name && (member.state === 'alive' || member.state === 'suspect')) return member;
      }
      for (const member of others('dead', 'left')) if (clock.now() - member.since > tuning.gossipToTheDeadTime && member.state === 'left') members.forget(member.name);
      probeList = shuffle(others('alive', 'suspect').map((member) => member.name), random);
    }
    return undefined;
  }

  async function probe(): Promise<void> {
    const target = nextToProbe();
    if (!target) return;
    const seq = nextSequence();
    const interval = tuning.probeInterval * (awareness + 1);
    let nacks = 0;
    let settle: (answered: boolean) => void = () => {};
    const answered = new Promise<boolean>((resolve) => (settle = resolve));
    acks.set(seq, { ack: () => settle(true), nack: () => nacks++ });
    const ping = encodePing({ seq, node: target.name, sourceNode: name, source: transport.address });
    // A suspect is told so along with the ping, and can refute at once.
    if (target.state === 'suspect') sendPacket(target.address, [ping, encodeAccusation('suspect', { node: target.name, incarnation: target.incarnation, from: name })], true);
    else sendWithNews(target.address, ping);
    let helpers: Member[] = [];
    const askOthers = after(tuning.probeTimeout, () => {
      helpers = shuffle(others('alive').filter((member) => member.name !== target.name), random).slice(0, tuning.indirectChecks);
      for (const helper of helpers) sendWithNews(helper.address, encodeIndirectPing({ seq, node: target.name, sourceNode: name, source: transport.address, target: target.address, nack: true }));
      streamPing(target, interval - tuning.probeTimeout).then((alive) => alive && settle(true), () => {});
    });
    const giveUp = after(interval, () => settle(false));
    const alive = await answered;
    cancel(askOthers);
    cancel(giveUp);
    acks.delete(seq);
    if (alive) {
      awareness = Math.max(0, awareness - 1);
      return;
    }
    // Helpers that could not reach it either say so; silence from them means that the fault may be ours (Lifeguard §IV.A).
    awareness = Math.min(MAX_AWARENESS, awareness + (helpers.length > 0 ? Math.min(1, helpers.length - nacks) : 1));
    const current = members.get(target.name);
    if (current) onSuspect({ node: target.name, incarnation: current.incarnation, from: name });
  }

  async function streamPing(target: Member, timeoutMs: number): Promise<boolean> {
    const seq = nextSequence();
    const answer = await exchange(target.address, encodePing({ seq, node: target.name, sourceNode: name, source: transport.address }), timeoutMs);
    return answer[0] === TYPE.ack && decodeAck(answer.subarray(1)).seq === seq;
  }

  // Streams -----------------------------------------------------------------------------------------------------------

  /** Collects a stream until `complete` accepts it; rejects on its end, on nonsense and after the time-out. */
  function collect<T>(stream: Stream, timeoutMs: number, complete: (message: Buffer) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let data: Buffer = Buffer.alloc(0);
      const timer = after(timeoutMs, () => reject(new Error('the stream took too long')));
      const finish = (run: () => void): void => {
        cancel(timer);
        run();
      };
      stream.onEnd((error) => finish(() => reject(error ?? new Error('the stream ended early'))));
      stream.onData((chunk) => {
        data = Buffer.concat([data, chunk]);
        try {
          if (data.length > MAX_STREAM_BYTES) throw new RangeError('the stream is too long');
          const result = complete(openStream(data, keyring));
          finish(() => resolve(result));
        } catch (error) {
          if (!(error instanceof Incomplete)) finish(() => reject(error instanceof Error ? error : new Error(String(error))));
        }
      });
    });
  }

  const seal = (message: Buffer): Buffer => sealStream(message, keyring, random, SEAL_OVERHEAD);

  /** Complete once it can be decoded. */
  function whole(message: Buffer): Buffer {
    const body = message.subarray(1);
    if (message[0] === TYPE.pushPull) decodePushPull(body);
    else if (message[0] === TYPE.user) decodeUserStream(body);
    else if (message[0] === TYPE.ping) decodePing(body);
    else if (message[0] === TYPE.ack) decodeAck(body);
    else if (message[0] === TYPE.error) throw new Error(`the other side says: ${decodeError(body)}`);
    else throw new RangeError(`a stream of type ${message[0]}`);
    return message;
  }

  async function exchange(to: Address, message: Buffer, timeoutMs: number): Promise<Buffer> {
    const stream = await transport.dial(to, timeoutMs);
    try {
      const answer = collect(stream, timeoutMs, whole);
      stream.write(seal(message));
      return await answer;
    } finally {
      stream.close();
    }
  }

  transport.onStream((stream, from) => {
    if (closed) return stream.close();
    collect(stream, tuning.streamTimeout, whole).then((message) => {
      const body = message.subarray(1);
      if (message[0] === TYPE.pushPull) {
        stream.write(seal(encodePushPull(ownState(false))));
        merge(decodePushPull(body));
      } else if (message[0] === TYPE.user) {
        delegate?.onMessage?.(decodeUserStream(body), undefined);
      } else if (message[0] === TYPE.ping) {
        const ping = decodePing(body);
        if (ping.node === '' || ping.node === name) stream.write(seal(encodeAck(ping.seq)));
      }
    }).catch((error: unknown) => log.debug({ from: from.host, detail: errorText(error) }, 'a stream made no sense')).finally(() => stream.close());
  });

  const ownState = (join: boolean): PushPull => ({ join, nodes: members.records(), userState: Buffer.from(delegate?.localState?.() ?? []) });

  async function pushPull(to: Address, join: boolean): Promise<void> {
    const answer = await exchange(to, encodePushPull(ownState(join)), tuning.streamTimeout);
    if (answer[0] !== TYPE.pushPull) throw new Error('the other side answered something else');
    merge(decodePushPull(answer.subarray(1)));
  }

  function merge({ nodes, userState }: PushPull): void {
    for (const node of nodes) {
      if (node.state === 'alive') onAlive(node);
      else if (node.state === 'left') onDead({ node: node.node, incarnation: node.incarnation, from: node.node });
      // Not dead on hearsay: suspected, so that it can refute.
      else if (members.get(node.node) || node.node === name) onSuspect({ node: node.node, incarnation: node.incarnation, from: name });
    }
    if (userState.length > 0) delegate?.mergeState?.(userState);
  }

  // Loops -------------------------------------------------------------------------------------------------------------

  function gossipRound(): void {
    const recent = others('dead').filter((member) => clock.now() - member.since < tuning.gossipToTheDeadTime);
    for (const member of shuffle([...others('alive', 'suspect'), ...recent], random).slice(0, tuning.gossipNodes)) sendPacket(member.address, news(room), true);
  }

  /** Known but failed members, and seeds that are not members: a split heals by itself. */
  async function rejoin(): Promise<void> {
    const failed = shuffle(others('dead'), random).slice(0, 1).map((member) => member.address);
    const alive = new Set(others('alive', 'suspect').map(({ address }) => `${address.host}:${address.port}`));
    const own = `${transport.address.host}:${transport.address.port}`;
    const missing = (await seeds()).filter((seed) => !alive.has(`${seed.host}:${seed.port}`) && `${seed.host}:${seed.port}` !== own);
    await Promise.allSettled([...failed, ...missing].map((address) => pushPull(address, true)));
  }

  members.alive(self(), clock.now());
  loop(() => tuning.probeInterval, probe);
  loop(() => tuning.gossipInterval, gossipRound);
  loop(() => tuning.pushPullInterval * pushPullScale(members.size), async () => {
    const [partner] = shuffle(others('alive'), random);
    if (partner) await pushPull(partner.address, false);
  });
  loop(() => tuning.rejoinInterval, rejoin);

  return {
    name,
    members: () => members.all(),
    member: (each) => members.get(each),
    join: async (addresses) => {
      const results = await Promise.allSettled(addresses.map((address) => pushPull(address, true)));
      const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
      return { joined: results.length - errors.length, errors };
    },
    setSeeds: (next) => (seeds = next),
    sendBestEffort: (to, message) => {
      const member = members.get(to);
      if (member) sendWithNews(member.address, encodeUserPacket(message));
    },
    sendReliable: async (to, message) => {
      const member = members.get(to);
      if (!member) throw new Error(`${to} is not a member`);
      const stream = await transport.dial(member.address, tuning.streamTimeout);
      stream.write(seal(encodeUserStream(message)));
      stream.close();
    },
    room: room - 3,
    get health() { return awareness; },
    leave: async (timeoutMs) => {
      leaving = true;
      members.dead(name, incarnation, true, clock.now());
      const message = encodeAccusation('dead', { incarnation, node: name, from: name });
      if (others('alive').length === 0) return;
      // At once to everybody, and on by gossip: nobody waits for the next round.
      for (const member of others('alive', 'suspect')) sendPacket(member.address, [message], true);
      await new Promise<void>((resolve) => {
        queue.add(message, name, resolve);
        after(timeoutMs, resolve);
      });
    },
    close: async () => {
      closed = true;
      for (const timer of timers) clock.clearTimeout(timer as never);
      await transport.close();
    },
  };
}
