/**
 * Which addresses are on other nodes, by soft state. An address may have several records for a moment (it moves, and the
 * old owner's word comes late): the newest counts, and nobody's counts against this node's own.
 */
import type { Clock, TimerHandle } from '../../base/clock.ts';
import { createFailureCheck, FAILED_NODE_GRACE_MS } from '../../cluster/failed-nodes.ts';
import { addressesOf, type EndpointRecord, type SoftState, type StateRecord } from '../../cluster/state.ts';

type EndpointState = StateRecord<'endpoint'>;
export interface Place { networkId: string; ip: string }
/** `owner`: the node's id. */
export interface RemoteEndpoint { owner: string; mac: string }

export interface RemoteEndpoints {
  at(place: Place): RemoteEndpoint | undefined;
  /** One of this node's own has the address. */
  isHere(place: Place): boolean;
  /** Addresses of which something is known, of an endpoint with two both; while it is walked through, they may come and go. */
  addresses(networkId: string): Iterable<string>;
  ownedBy(nodes: ReadonlySet<string>): Place[];
  close(): void;
}

/** One record. There are many of them: nothing is kept that follows from it, and no list where there is but one. */
interface Holder { key: string; owner: string; value: EndpointRecord; local: boolean; failure: Failure | undefined }
/** Those of one address, the newest last. */
type Holders = Holder | Holder[];

/** What a node had when it failed, and has not shown again. */
interface Failure { node: string; holders: Set<Holder>; timer: TimerHandle }

const NOBODY: readonly Holder[] = [];
const listOf = (holders: Holders | undefined): readonly Holder[] => (holders === undefined ? NOBODY : Array.isArray(holders) ? holders : [holders]);

/** `onChange` is called for each address that may have changed, also while this is created. */
export function watchRemoteEndpoints(state: SoftState, clock: Clock, onChange: (place: Place) => void): RemoteEndpoints {
  /** Network → address → who has it. */
  const networks = new Map<string, Map<string, Holders>>();
  /** Of nodes that have not returned, by node: the next failure of one that has is another, with the whole grace. */
  const failed = new Map<string, Failure>();
  /** Those whose time has not run out. What a node deleted while it was away is never shown again: it goes then. */
  const failures = new Set<Failure>();
  const hasFailed = createFailureCheck(state);

  const holdersOf = ({ networkId, ip }: Place): readonly Holder[] => listOf(networks.get(networkId)?.get(ip));

  function setHolders({ networkId, ip }: Place, holders: readonly Holder[]): void {
    const addresses = networks.get(networkId) ?? new Map<string, Holders>();
    const [first] = holders;
    if (first) addresses.set(ip, holders.length === 1 ? first : [...holders]);
    else addresses.delete(ip);
    if (addresses.size > 0) networks.set(networkId, addresses);
    else networks.delete(networkId);
    onChange({ networkId, ip });
  }

  function put({ key, owner, value }: EndpointState, local: boolean): void {
    const { networkId } = value;
    const holder: Holder = { key, owner, value, local, failure: undefined };
    for (const ip of addressesOf(value)) {
      const place = { networkId, ip };
      setHolders(place, [...holdersOf(place).filter((each) => each.key !== key), holder]);
    }
  }

  function remove(key: string, place: Place): void {
    const holders = holdersOf(place);
    const holder = holders.find((each) => each.key === key);
    if (!holder) return;
    forgive(holder);
    setHolders(place, holders.filter((each) => each !== holder));
  }

  function removeAll({ key, value }: { key: string; value: EndpointRecord }): void {
    for (const ip of addressesOf(value)) remove(key, { networkId: value.networkId, ip });
  }

  const holderOf = ({ key, value }: EndpointState): Holder | undefined => holdersOf(value).find((each) => each.key === key);

  function fail(record: EndpointState): void {
    const holder = holderOf(record);
    if (!holder) return;
    forgive(holder);
    const failure = failed.get(record.owner) ?? begin(record.owner);
    failure.holders.add(holder);
    holder.failure = failure;
    for (const ip of addressesOf(record.value)) onChange({ networkId: record.value.networkId, ip });
  }

  function begin(node: string): Failure {
    const failure: Failure = {
      node, holders: new Set(),
      timer: clock.setTimeout(() => {
        end(failure);
        for (const holder of failure.holders) removeAll(holder);
      }, FAILED_NODE_GRACE_MS),
    };
    failed.set(node, failure);
    failures.add(failure);
    return failure;
  }

  function end(failure: Failure): void {
    clock.clearTimeout(failure.timer);
    failures.delete(failure);
    if (failed.get(failure.node) === failure) failed.delete(failure.node);
  }

  /** It is there again, or is gone for good. */
  function forgive(holder: Holder): void {
    const { failure } = holder;
    holder.failure = undefined;
    if (failure?.holders.delete(holder) && failure.holders.size === 0) end(failure);
  }

  const stop = state.watch('endpoint', (change) => {
    const { record, local } = change;
    if (change.type === 'put') {
      failed.delete(record.owner);
      const holder = holderOf(record);
      if (holder) forgive(holder);
      const kept = addressesOf(record.value);
      const { previous } = change;
      if (previous) for (const ip of addressesOf(previous)) if (!kept.includes(ip)) remove(record.key, { networkId: previous.networkId, ip });
      put(record, local);
    } else if (!local && hasFailed(record.owner)) fail(record);
    else removeAll(record);
  });

  function winner(place: Place): RemoteEndpoint | undefined {
    let best: Holder | undefined;
    for (const holder of holdersOf(place)) {
      if (holder.local) return undefined;
      if (!best || best.failure || !holder.failure) best = holder;
    }
    return best && { owner: best.owner, mac: best.value.mac };
  }

  return {
    at: winner,
    isHere: (place) => holdersOf(place).some(({ local }) => local),
    addresses: (networkId) => networks.get(networkId)?.keys() ?? [],
    ownedBy: (nodes) => [...networks].flatMap(([networkId, addresses]) =>
      [...addresses].flatMap(([ip, holders]) => (listOf(holders).some(({ owner }) => nodes.has(owner)) ? [{ networkId, ip }] : []))),
    close: () => {
      stop();
      for (const failure of failures) end(failure);
    },
  };
}
