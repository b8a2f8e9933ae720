/**
 * The registry of networks. Cluster networks live in the store, where identifier, name and VNI are each claimed by
 * compare-and-swap; a copy of all of them is kept on disk, so that a node starts without the store. Networks of this
 * node alone live on its own disk.
 */
import { WeftError, errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import type { Compare, LocalStore, Store, TxnResult, Write } from '../store/store.ts';

/** 0x800000 is the routed VXLAN between the nodes; Docker's and Swarm's own start at 4096. */
const FIRST_VNI = 0x800001;
const LAST_VNI = 0xfffffe;
/** Each attempt that fails means that somebody else changed what is compared. */
const ATTEMPTS = 16;

export interface NetworkChange { type: 'put' | 'delete'; network: Network }

/** What Docker tells only after a network's creation. `ranges` are those of its subnets, by subnet. */
export interface NetworkFacts { name: string; labels: Record<string, string>; attachable: boolean; ranges: ReadonlyMap<string, string> }

export interface NetworkRegistry {
  get(id: string): Network | undefined;
  list(): Network[];
  /** By identifier, unique identifier prefix, or name. */
  find(reference: string): Network | undefined;
  /** Throws WEFT-NETWORK-EXISTS; WEFT-STORE-CONFLICT. Returns the network with what was chosen for it (VNI). */
  create(network: Network): Promise<Network>;
  /** Throws WEFT-NETWORK-EXISTS when another network has the name; then this one stays without. Throws WEFT-STORE-CONFLICT. */
  describe(id: string, facts: NetworkFacts): Promise<void>;
  /** Idempotent. Throws WEFT-STORE-CONFLICT. */
  remove(id: string): Promise<void>;
  onChange(listener: (change: NetworkChange) => void): void;
  /** Follows the store from now on. */
  follow(): () => void;
}

/** On this node's disk: networks of its own, and copies of the cluster's. */
const OWN = 'networks/';
const COPIES = 'cache/networks/';
/** Those whose making failed here while the store may have them. */
const GIVEN_UP = 'given-up/networks/';
const localKey = ({ scope, id }: Network): string => `${scope === 'node' ? OWN : COPIES}${id}`;

/** What a node will know of the cluster's networks at its next start, before the store has answered. `stored`: key and value of whatever is in the store. */
export function rememberNetworks(local: LocalStore, stored: readonly { key: string; value: string }[]): void {
  for (const { key, value } of stored) if (key.startsWith('networks/')) local.put(localKey(JSON.parse(value) as Network), value);
}

export function createNetworkRegistry({ store, local, log }: { store: Store; local: LocalStore; log: Logger }): NetworkRegistry {
  const networks = new Map<string, Network>();
  const listeners: ((change: NetworkChange) => void)[] = [];
  for (const prefix of [COPIES, OWN]) {
    for (const { value } of local.list(prefix)) {
      const network = JSON.parse(value) as Network;
      networks.set(network.id, network);
    }
  }

  function remember(network: Network): void {
    const text = JSON.stringify(network);
    const known = networks.get(network.id);
    if (known && JSON.stringify(known) === text) return;
    local.put(localKey(network), text);
    networks.set(network.id, network);
    for (const listener of listeners) listener({ type: 'put', network });
  }

  function forget(id: string): void {
    const network = networks.get(id);
    if (!network) return;
    local.delete(localKey(network));
    networks.delete(id);
    for (const listener of listeners) listener({ type: 'delete', network });
  }

  const nameTaken = (name: string): boolean => [...networks.values()].some((network) => network.name === name);

  /**
   * The store may have done what it did not answer (a refusal is an answer). A network that is there is made; one that is not may come yet, when what was claimed for it (its
   * pool) has been given back: then it goes as soon as this node hears of it.
   */
  async function claim(id: string, compares: readonly Compare[], writes: readonly Write[]): Promise<Pick<TxnResult, 'succeeded' | 'current'>> {
    try {
      return await store.txn(compares, writes);
    } catch (error) {
      if (error instanceof WeftError && error.code !== 'WEFT-STORE-UNREACHABLE') throw error;
      if (networks.has(id) || await store.get(`networks/${id}`).catch(() => undefined)) return { succeeded: true, current: [] };
      local.put(GIVEN_UP + id, 'true');
      throw error;
    }
  }

  /** What the store says. */
  function learn(network: Network): void {
    if (local.get(GIVEN_UP + network.id) === undefined) return remember(network);
    removeFromCluster(network.id).then(
      () => local.delete(GIVEN_UP + network.id),
      (error: unknown) => log.warn({ network: network.name, detail: errorText(error) }, 'a network that could not be made is still in the store; tried again at the next start'),
    );
  }

  async function createInCluster(network: Network): Promise<Network> {
    const taken = new Set([...networks.values()].map((each) => each.vni));
    // Others have no tunnel to tell apart.
    const needsVni = network.driver === 'overlay';
    let vni = network.vni ?? FIRST_VNI;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (network.vni === undefined) while (taken.has(vni)) vni++;
      if (vni > LAST_VNI) break;
      const candidate = needsVni ? { ...network, vni } : network;
      const compares: Compare[] = [{ key: `networks/${network.id}`, revision: 0 }, ...(needsVni ? [{ key: `vnis/${vni}`, revision: 0 }] : [])];
      const writes: Write[] = [
        { put: `networks/${network.id}`, value: JSON.stringify(candidate) },
        ...(needsVni ? [{ put: `vnis/${vni}`, value: JSON.stringify(network.id) }] : []),
      ];
      if (network.name !== '') {
        compares.push({ key: `network-names/${network.name}`, revision: 0 });
        writes.push({ put: `network-names/${network.name}`, value: JSON.stringify(network.id) });
      }
      const result = await claim(network.id, compares, writes);
      if (result.succeeded) {
        remember(candidate);
        return candidate;
      }
      const held = new Set(result.current.map((entry) => entry.key));
      const isKnown = held.has(`networks/${network.id}`) || held.has(`network-names/${network.name}`);
      if (isKnown || network.vni !== undefined) throw weftError('WEFT-NETWORK-EXISTS', { network: isKnown ? network.name || network.id.slice(0, 12) : `with VNI ${vni}` });
      taken.add(vni);
    }
    throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of VNIs' });
  }

  const described = (network: Network, { ranges, ...facts }: NetworkFacts): Network => ({
    ...network, ...facts,
    subnets: network.subnets.map((each) => {
      const range = ranges.get(each.subnet);
      return { ...each, ...(range !== undefined && { range }) };
    }),
  });

  async function describe(id: string, facts: NetworkFacts): Promise<void> {
    const known = networks.get(id);
    if (!known || known.name !== '') return;
    if (known.scope === 'node') {
      remember(described(known, facts));
      return;
    }
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const entry = await store.get(`networks/${id}`);
      if (!entry) return;
      const stored = JSON.parse(entry.value) as Network;
      // Done by an attempt whose answer was lost.
      if (stored.name !== '') return remember(stored);
      const complete = described(stored, facts);
      const result = await store.txn(
        [{ key: `networks/${id}`, revision: entry.revision }, { key: `network-names/${facts.name}`, revision: 0 }],
        [{ put: `networks/${id}`, value: JSON.stringify(complete) }, { put: `network-names/${facts.name}`, value: JSON.stringify(id) }],
      );
      if (result.succeeded) return remember(complete);
      if (result.current.some((each) => each.key.startsWith('network-names/'))) throw weftError('WEFT-NETWORK-EXISTS', { network: facts.name });
    }
    throw weftError('WEFT-STORE-CONFLICT', { what: `network ${facts.name}` });
  }

  /**
   * Name and VNI are given back with the network itself and never later: by then they may be another network's. As the store has
   * them, since this node may not have heard of the name yet.
   */
  async function removeFromCluster(id: string): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const entry = await store.get(`networks/${id}`);
      if (!entry) return;
      const { name, vni } = JSON.parse(entry.value) as Network;
      const { succeeded } = await store.txn([{ key: entry.key, revision: entry.revision }], [
        { delete: entry.key },
        ...(vni === undefined ? [] : [{ delete: `vnis/${vni}` }]),
        ...(name === '' ? [] : [{ delete: `network-names/${name}` }]),
      ]);
      if (succeeded) return;
    }
    throw weftError('WEFT-STORE-CONFLICT', { what: `network ${networks.get(id)?.name || id.slice(0, 12)}` });
  }

  return {
    get: (id) => networks.get(id),
    list: () => [...networks.values()],
    find: (reference) => {
      const all = [...networks.values()];
      const exact = networks.get(reference) ?? all.find((network) => network.name === reference);
      if (exact) return exact;
      const matching = all.filter((network) => reference.length >= 4 && network.id.startsWith(reference));
      return matching.length === 1 ? matching[0] : undefined;
    },
    create: async (network) => {
      if (network.name !== '' && nameTaken(network.name)) throw weftError('WEFT-NETWORK-EXISTS', { network: network.name });
      if (network.scope === 'cluster') return createInCluster(network);
      remember(network);
      return network;
    },
    describe,
    remove: async (id) => {
      const network = networks.get(id);
      if (!network) return;
      if (network.scope === 'cluster') await removeFromCluster(id);
      forget(id);
    },
    onChange: (listener) => void listeners.push(listener),
    follow: () => store.watch('networks/', (event) => {
      if (event.type === 'delete') {
        forget(event.key.slice('networks/'.length));
      } else if (event.type === 'put') {
        learn(JSON.parse(event.entry.value) as Network);
      } else {
        const present = event.entries.map((entry) => JSON.parse(entry.value) as Network);
        const ids = new Set(present.map((network) => network.id));
        for (const network of networks.values()) {
          if (network.scope === 'cluster' && !ids.has(network.id)) {
            log.info({ network: network.name }, 'a network was removed while this node was away');
            forget(network.id);
          }
        }
        for (const network of present) learn(network);
      }
    }),
  };
}
