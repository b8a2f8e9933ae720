/**
 * The keys of the gossip protocol. The store says which there are; a change goes through it in two steps, so that no
 * node ever hears a packet that it cannot open: a new key is installed everywhere first, and used when all live nodes have said that they have it.
 */
import { randomBytes } from 'node:crypto';
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { SoftState } from '../cluster/state.ts';
import type { Keyring } from '../gossip/keyring.ts';
import type { Entry, LocalStore, Store } from '../store/store.ts';

const KEY = 'gossip-keys';
const CACHE = 'cluster/gossip-keys';
const KEY_BYTES = 32;
const WORD_BYTES = 8;
const LIFETIME_MS = 12 * 3_600_000;
/** So that not all nodes ask for the change at once. */
const SPREAD_MS = 600_000;
const CHECK_MS = 60_000;
/** While a change is under way. */
const STEP_MS = 1_000;

/** As it is in the store; keys in base 64. */
interface Keys {
  /** Of this record. Not the store's revision: a node whose store was moved counts that otherwise. */
  version: number;
  /** The first one seals; the one before it still opens, for nodes that were away. */
  keys: string[];
  /** Being installed. */
  next?: string;
  /** The old key is not to open anything once the next one is in use: somebody has it who must not. */
  forget?: boolean;
  /** When the first one was made, milliseconds since the Unix epoch. */
  since: number;
  /** Another word each time that somebody asks for new pairs of WireGuard, which each node makes for itself. */
  pairs?: string;
}

export interface GossipKeys {
  /**
   * Asks for a change; resolves when it has begun. `forget`: the present key is of no use afterwards. Otherwise new pairs of WireGuard are asked for as
   * well: who must not know the present key is nobody's peer any more.
   */
  rotate(forget: boolean): Promise<void>;
  close(): void;
}

const newKey = (): string => randomBytes(KEY_BYTES).toString('base64');
const parse = (text: string): Keys => JSON.parse(text) as Keys;

/** The store's, made there by whoever comes first; this node's copy while the store is away. All that open, the sealing one first. */
export async function gossipKeys(store: Store, local: LocalStore, now: number): Promise<Uint8Array[]> {
  const cached = local.get(CACHE);
  const read = (text: string): Uint8Array[] => {
    const { keys, next } = parse(text);
    return [...keys, ...(next === undefined ? [] : [next])].map((key) => Buffer.from(key, 'base64'));
  };
  if (cached !== undefined) return read(cached);
  for (;;) {
    const entry = await store.get(KEY);
    if (entry) {
      local.put(CACHE, entry.value);
      return read(entry.value);
    }
    const made: Keys = { version: 1, keys: [newKey()], since: now };
    await store.txn([{ key: KEY, revision: 0 }], [{ put: KEY, value: JSON.stringify(made) }]);
  }
}

export interface GossipKeysOptions {
  store: Store;
  local: LocalStore;
  keyring: Keyring;
  state: SoftState;
  /** Whether a member of gossip is a node of the cluster: one that was taken out is not waited for. */
  belongs(id: string): boolean;
  /** Tells the others which version is installed here. */
  onInstalled(version: number): void;
  /** Somebody has asked for new pairs of WireGuard: now, or with the same word some time ago. */
  onPairsAsked(word: string): void;
  clock: Clock;
  random: Random;
  log: Logger;
}

export function followGossipKeys({ store, local, keyring, state, belongs, onInstalled, onPairsAsked, clock, random, log }: GossipKeysOptions): GossipKeys {
  const lifetime = LIFETIME_MS + random.float() * SPREAD_MS;
  let current: Entry | undefined;
  let installed = 0;
  let timer: TimerHandle;
  let closed = false;

  function apply(entry: Entry): void {
    const { version, keys, next, pairs } = parse(entry.value);
    const wanted = [...keys, ...(next === undefined ? [] : [next])].map((key) => Buffer.from(key, 'base64'));
    for (const key of wanted) keyring.install(key);
    keyring.use(wanted[0]!);
    for (const key of keyring.keys) if (!wanted.some((each) => each.equals(key))) keyring.remove(key);
    if (local.get(CACHE) !== entry.value) local.put(CACHE, entry.value);
    current = entry;
    if (version === installed) return;
    installed = version;
    onInstalled(version);
    if (pairs !== undefined) onPairsAsked(pairs);
  }

  /** Writes it where nobody else has changed the keys meanwhile; what is the case then comes by the watch. */
  const change = async (from: Entry, to: Keys): Promise<boolean> =>
    (await store.txn([{ key: KEY, revision: from.revision }], [{ put: KEY, value: JSON.stringify(to) }])).succeeded;

  /** The next step of a change under way, or a change that is due. */
  async function advance(): Promise<void> {
    const entry = current;
    if (!entry) return;
    const { version, keys, next, forget, since, pairs } = parse(entry.value);
    if (next === undefined) {
      if (clock.wallNow() - since > lifetime) await begin(entry, {});
      return;
    }
    const told = new Map(state.list('node').map(({ owner, value }) => [owner, value.gossipKeys ?? 0]));
    const waitingFor = state.members().filter((member) => belongs(member.id) && (member.state === 'alive' || member.state === 'suspect') && (told.get(member.id) ?? 0) < version);
    if (waitingFor.length > 0) return;
    if (await change(entry, { version: version + 1, keys: [next, ...(forget ? [] : keys.slice(0, 1))], since: clock.wallNow(), ...(pairs !== undefined && { pairs }) })) log.info({ forget: forget ?? false }, 'gossip has a new key');
  }

  /** One that is under way goes on, unless its new key is known to whom it must not be. */
  async function begin(entry: Entry, wish: Pick<Keys, 'forget' | 'pairs'>): Promise<boolean> {
    const before = parse(entry.value);
    return change(entry, { ...before, ...wish, version: before.version + 1, keys: before.keys.slice(0, 1), next: wish.forget ? newKey() : before.next ?? newKey() });
  }

  async function round(): Promise<void> {
    try {
      await advance();
    } catch (error) {
      log.debug({ detail: errorText(error) }, 'the gossip key could not be changed; tried again');
    }
    wait();
  }

  function wait(): void {
    clock.clearTimeout(timer);
    if (!closed) timer = clock.setTimeout(() => void round(), current !== undefined && parse(current.value).next === undefined ? CHECK_MS : STEP_MS);
  }

  const stop = store.watch(KEY, (event) => {
    const entry = event.type === 'put' ? event.entry : event.type === 'snapshot' ? event.entries.find(({ key }) => key === KEY) : undefined;
    if (!entry) return;
    try {
      apply(entry);
    } catch (error) {
      log.error({ detail: errorText(error) }, 'the gossip keys in the store are none');
    }
    wait();
  });
  wait();

  return {
    rotate: async (forget) => {
      const wish = forget ? { forget } : { pairs: randomBytes(WORD_BYTES).toString('hex') };
      for (;;) {
        const entry = await store.get(KEY);
        if (!entry || await begin(entry, wish)) return;
      }
    },
    close: () => {
      closed = true;
      clock.clearTimeout(timer);
      stop();
    },
  };
}
