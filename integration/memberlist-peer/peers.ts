/** Members of a pool, each a program of its own or a node of ours, behind one interface. All in one network namespace, on 127.3.0.x. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { systemClock as clock } from '../../base/clock.ts';
import { silentLogger as log } from '../../base/log.ts';
import { systemRandom as random } from '../../base/random.ts';
import { createGossip, type Gossip, type GossipOptions } from '../../gossip/gossip.ts';
import { openTransport } from '../../gossip/net-transport.ts';
import type { NodeState } from '../../gossip/messages.ts';
import { bool, map, raw, uint, unpack } from '../../gossip/msgpack.ts';
import type { Versions } from '../../gossip/versions.ts';
import { must, until, wait } from '../lab/run.ts';
import { buildMemberlistPeer } from './build.ts';

export const PORT = 7946;
const RPC_PORT = 7373;
/** What Serf's agents ask of members beside memberlist's own versions. */
export const SERF_VERSIONS: Versions = [1, 5, 2, 2, 5, 4];

export interface Peer {
  readonly name: string;
  readonly host: string;
  /** Joins the pool through any of these. */
  join(hosts: readonly string[]): Promise<void>;
  /** Names of those that it takes for alive (or suspect), sorted. */
  living(): Promise<string[]>;
  /** All members with what it takes them for, for messages about failures. */
  describe(): Promise<string>;
  /** Texts and events that it heard. */
  heard(text: string): boolean;
  leave(): Promise<void>;
  /** Ends it without a word. */
  kill(): Promise<void>;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

// Serf ----------------------------------------------------------------------------------------------------------------

export interface SerfPeer extends Peer {
  /** What an agent says about a member: alive, failed, left, leaving; undefined: unknown. */
  statusOf(name: string): Promise<{ status: string; tags: Record<string, string> } | undefined>;
  /** A command of Serf's, asked of this agent; what it prints. Rejects when it fails. */
  run(command: string, ...rest: string[]): Promise<string>;
}

/**
 * For an agent that comes back under its name: its Lamport clock goes on where it was, else its own old intents win
 * over the new ones. Without `-rejoin` a departure would wipe the clock from the file as well.
 */
export const serfRemembers = (file: string): string[] => [`-snapshot=${file}`, '-rejoin'];

export async function startSerf(name: string, host: string, flags: readonly string[] = []): Promise<SerfPeer> {
  const rpc = `-rpc-addr=${host}:${RPC_PORT}`;
  const agent = spawn('serf', ['agent', `-node=${name}`, `-bind=${host}:${PORT}`, rpc, '-log-level=debug', ...flags], { stdio: ['ignore', 'pipe', 'ignore'] });
  let output = '';
  agent.stdout.on('data', (data: Buffer) => (output += data.toString()));
  const run = (command: string, ...rest: string[]): Promise<string> => must(['serf', command, rpc, ...rest], { timeoutMs: 20_000 });
  const members = async (): Promise<{ name: string; status: string; tags: Record<string, string> }[]> =>
    (JSON.parse(await run('members', '-format=json')) as { members: { name: string; status: string; tags: Record<string, string> }[] }).members;
  await until(`${name} answers`, async () => (await members()).length > 0, 10_000);
  return {
    name, host, run,
    join: async (hosts) => {
      const join = (): Promise<string> => run('join', ...hosts.map((each) => `${each}:${PORT}`));
      await join();
      // An agent that hears the intent before memberlist's word of life takes the node for gone at the intent's Lamport time,
      // tells that to agents that start, and they never believe the intent: a later one settles it.
      await wait(1_500);
      await join();
    },
    living: async () => (await members()).filter(({ status }) => status === 'alive').map((member) => member.name).sort(),
    describe: async () => (await members()).map((member) => `${member.name} ${member.status}`).join(', '),
    statusOf: async (member) => (await members()).find((each) => each.name === member),
    heard: (text) => output.includes(text),
    leave: async () => {
      const gone = once(agent, 'exit');
      await run('leave');
      await gone;
    },
    kill: () => end(agent),
  };
}

// memberlist in Go ----------------------------------------------------------------------------------------------------

export interface GoPeer extends Peer {
  command(line: string): Promise<unknown>;
  metaOf(name: string): Promise<string | undefined>;
}

interface GoEvent { event: string; base64?: string; result?: unknown; error?: string }
interface GoMember { name: string; meta: string }

export async function startGo(name: string, host: string, flags: readonly string[] = []): Promise<GoPeer> {
  const child = spawn(await buildMemberlistPeer(), [`-name=${name}`, `-bind=${host}`, `-port=${PORT}`, ...flags], { stdio: ['pipe', 'pipe', 'ignore'] });
  const texts: string[] = [];
  const replies: ((event: GoEvent) => void)[] = [];
  let ready = false;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = JSON.parse(line) as GoEvent;
    if (event.event === 'ready') ready = true;
    if (event.event === 'message') texts.push(Buffer.from(event.base64!, 'base64').toString('latin1'));
    if (event.event === 'reply') replies.shift()?.(event);
  });
  child.stdin.on('error', () => {});
  const command = (line: string): Promise<unknown> => new Promise((resolve, reject) => {
    replies.push(({ result, error }) => (error === undefined ? resolve(result) : reject(new Error(error))));
    child.stdin.write(`${line}\n`);
  });
  await until(`${name} is ready`, () => ready, 10_000);
  const members = async (): Promise<GoMember[]> => await command('members') as GoMember[];
  return {
    name, host, command,
    join: async (hosts) => void (await command(`join ${hosts.map((each) => `${each}:${PORT}`).join()}`)),
    living: async () => (await members()).map((member) => member.name).sort(),
    describe: async () => (await members()).map((member) => member.name).join(', '),
    metaOf: async (member) => {
      const meta = (await members()).find((each) => each.name === member)?.meta;
      return meta === undefined ? undefined : Buffer.from(meta, 'base64').toString();
    },
    heard: (text) => texts.some((each) => each.includes(text)),
    leave: async () => {
      await command('leave');
      await end(child);
    },
    kill: () => end(child),
  };
}

// Ours ----------------------------------------------------------------------------------------------------------------

export interface OwnPeer extends Peer {
  readonly gossip: Gossip;
  stateOf(name: string): NodeState | undefined;
}

/** A node of ours in this process. */
export async function startOwn(name: string, host: string, options: Partial<GossipOptions> = {}): Promise<OwnPeer> {
  const texts: string[] = [];
  const transport = await openTransport({ bind: { host, port: PORT } });
  const gossip = createGossip({
    name, transport, clock, random, log, versions: SERF_VERSIONS, meta: Buffer.from('ff80', 'hex'), delegate: {
      onMessage: (message) => {
        texts.push(message.toString('latin1'));
        if (message[0] === LEAVE_INTENT || message[0] === JOIN_INTENT) intend(message);
      },
    }, ...options,
  });
  // Serf's agents also tell each other who came and went, and when, as they exchange states. They seldom meet one of their
  // kind here, and what one of them missed in a cut it would take for true for minutes: ours say the latest again and again.
  const intents = new Map<string, { time: number; message: Buffer }>();
  const intend = (message: Buffer): void => {
    const { LTime, Node } = unpack(message, 1).value as { LTime: number | bigint; Node: Buffer };
    const [time, node] = [Number(LTime), Node.toString()];
    if (time <= (intents.get(node)?.time ?? 0)) return;
    intents.set(node, { time, message });
    gossip.broadcast(message, node);
  };
  let leaving = false;
  const saying = setInterval(() => {
    // At a new time: an agent that heard of a departure with the time of this return (they give each other times of their own) keeps to that one.
    if (!leaving) intend(serfIntent(JOIN_INTENT, name));
    for (const [node, { message }] of intents) if (leaving || node !== name) gossip.broadcast(message, node);
  }, 3_000);
  const silence = (): void => clearInterval(saying);
  intend(serfIntent(JOIN_INTENT, name));
  return {
    name, host, gossip,
    join: async (hosts) => {
      const { joined, errors } = await gossip.join(hosts.map((each) => ({ host: each, port: PORT })));
      if (joined === 0) throw new AggregateError(errors, `${name} could not join`);
    },
    living: async () => gossip.members().filter(({ state }) => state === 'alive' || state === 'suspect').map((member) => member.name).sort(),
    describe: async () => gossip.members().map((member) => `${member.name} ${member.state} ${member.incarnation}`).join(', '),
    stateOf: (member) => gossip.member(member)?.state,
    heard: (text) => texts.some((each) => each.includes(text)),
    leave: async () => {
      leaving = true;
      intend(serfIntent(LEAVE_INTENT, name));
      await wait(1_000);
      await gossip.leave({ timeoutMs: 3_000 });
      silence();
      await gossip.shutdown();
    },
    kill: () => {
      silence();
      return gossip.shutdown();
    },
  };
}

/** Serf's messages, in memberlist's user messages. */
const LEAVE_INTENT = 0;
const JOIN_INTENT = 1;

/** Later than anything that the agents of a test have seen of the node. */
let lamport = 10_000;

/**
 * What Serf says on top of memberlist when a node joins and leaves, in the order of a Lamport clock:
 * without it a departure passes for a failure, and word of it that comes late for another one.
 */
const serfIntent = (type: typeof LEAVE_INTENT | typeof JOIN_INTENT, name: string): Buffer =>
  Buffer.concat([Buffer.of(type), map({ LTime: uint(++lamport), Node: raw(name), Prune: type === LEAVE_INTENT ? bool(false) : undefined })]);
