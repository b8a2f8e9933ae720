/** Gossip and soft state, put together for one node. */
import type { Clock } from '../base/clock.ts';
import type { WeftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { createGossip, type Gossip } from '../gossip/gossip.ts';
import { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import type { Transport } from '../gossip/transport.ts';
import type { ProfileName, Tuning } from '../gossip/tuning.ts';
import type { LocalStore } from '../store/store.ts';
import { keepAddressBook } from './address-book.ts';
import { allAddresses } from './discovery.ts';
import { createNamesakes } from './namesakes.ts';
import { openSources, type DiscoveryOptions } from './sources.ts';
import { createSoftState, type ClusterState } from './soft-state.ts';

export interface ClusterOptions {
  node: { id: string; name: string };
  /** Bound already; closed with the cluster. */
  transport: Transport;
  /** Of 16, 24 or 32 bytes, the same on every node: all open, the first one seals. */
  keys: readonly Uint8Array[];
  /** Where other nodes may be; asked again and again while they are not members. Beside them, a node that is alone looks where members were last. */
  seeds(): Promise<readonly Address[]>;
  /** How they are found without knowing any. Default: not at all. */
  discovery?: DiscoveryOptions | undefined;
  clock: Clock;
  random: Random;
  log: Logger;
  local: LocalStore;
  /** Default: fast. */
  profile?: ProfileName;
  /** Over the profile. */
  tuning?: Partial<Tuning>;
  /** How long a member that is away is waited for: what it wrote is kept, and what was deleted meanwhile is remembered. Who is away for longer starts over. Milliseconds. Default: a day. */
  absenceMs?: number;
}

export interface Cluster {
  readonly state: ClusterState;
  readonly gossip: Gossip;
  /** To change the key of a running cluster: installed everywhere, then used everywhere, then the old one is removed. */
  readonly keyring: Keyring;
  /** What an operator has to see to. */
  problems(): WeftError[];
  /** Says goodbye, then closes: its records vanish everywhere for good. */
  leave(): Promise<void>;
  /** Without a word: the others notice, hide its records, and show them again when it returns. */
  close(): Promise<void>;
}

const LEAVE_TIMEOUT_MS = 1_000;

export function startCluster({ node, transport, keys, seeds, discovery = { multicast: false }, clock, random, log, local, profile = 'fast', tuning, absenceMs }: ClusterOptions): Cluster {
  const state = createSoftState({ self: node.id, clock, random, log, local, absenceMs });
  const namesakes = createNamesakes(clock);
  const [first, ...more] = keys;
  const keyring = new Keyring(first!, ...more);
  const gossip = createGossip({
    name: node.id, transport, clock, random, log, keyring, meta: Buffer.from(node.name), profile, tuning, delegate: { ...state.delegate, onConflict: namesakes.onConflict }, coordinates: true,
  });
  state.attach(gossip);
  const book = keepAddressBook(gossip, local);
  const sources = openSources({ discovery, self: transport.address, keyring, clock, random, log });
  const others = (): number => gossip.members().filter(({ name, state: each }) => name !== node.id && (each === 'alive' || each === 'suspect')).length;
  const found = { addresses: () => sources.addresses(others()) };
  const amongOthers = allAddresses({ seeds: { addresses: seeds }, found }, log);
  const alone = allAddresses({ seeds: { addresses: seeds }, found, book }, log);
  // Among others, members that failed are looked for anyway, and where others once were is of no interest.
  gossip.seekSeeds(() => (others() === 0 ? alone() : amongOthers()));
  const close = async (): Promise<void> => {
    state.close();
    await sources.close();
    await gossip.shutdown();
  };
  return {
    state, gossip, keyring, close,
    problems: () => namesakes.problems((id) => gossip.member(id)),
    leave: async () => {
      await gossip.leave({ timeoutMs: LEAVE_TIMEOUT_MS });
      await close();
    },
  };
}
