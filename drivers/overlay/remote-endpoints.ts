/**
 * Which addresses are on other nodes, by soft state. An address may have several records for a moment (it moves, and the
 * old owner's word comes late): the newest counts, and nobody's counts against this node's own.
 */
import type { Clock, TimerHandle } from '../../base/clock.ts';
import { addressesOf, type SoftState, type StateRecord } from '../../cluster/state.ts';

/**
 * Records of a failed node count this much longer: its containers may well be running on, and a node that was only cut off
 * needs up to this long to be heard again (gossip goes on telling the dead for as long). With 10 s, packets were lost just
 * after the cut had ended.
 */
const FAILED_NODE_GRACE_MS = 30_000;

export type EndpointState = StateRecord<'endpoint'>;
export interface Place { networkId: string; ip: string }

export interface RemoteEndpoints {
  at(place: Place): EndpointState | undefined;
  /** By address: an endpoint with two has both here. */
  on(networkId: string): Map<string, EndpointState>;
  ownedBy(node: string): Place[];
  close(): void;
}

interface Holder { record: EndpointState; local: boolean; failure?: Failure | undefined }

/** What a node had when it failed, and has not shown again. */
interface Failure { node: string; holders: Set<Holder>; timer: TimerHandle }

/** `onChange` is called for each address that may have changed, also while this is created. */
export function watchRemoteEndpoints(state: SoftState, clock: Clock, onChange: (place: Place) => void): RemoteEndpoints {
  /** Network → address → endpoint → its record; the newest last. */
  const networks = new Map<string, Map<string, Map<string, Holder>>>();
  /** Of nodes that have not returned, by node: the next failure of one that has is another, with the whole grace. */
  const failed = new Map<string, Failure>();
  /** Those whose time has not run out. What a node deleted while it was away is never shown again: it goes then. */
  const failures = new Set<Failure>();

  function put(record: EndpointState, local: boolean): void {
    const { networkId } = record.value;
    const addresses = networks.get(networkId) ?? new Map<string, Map<string, Holder>>();
    networks.set(networkId, addresses);
    const holder: Holder = { record, local };
    for (const ip of addressesOf(record.value)) {
      const holders = addresses.get(ip) ?? new Map<string, Holder>();
      addresses.set(ip, holders);
      holders.delete(record.key);
      holders.set(record.key, holder);
      onChange({ networkId, ip });
    }
  }

  function remove(key: string, { networkId, ip }: Place): void {
    const addresses = networks.get(networkId);
    const holders = addresses?.get(ip);
    const holder = holders?.get(key);
    if (!holders || !holder) return;
    forgive(holder);
    holders.delete(key);
    if (holders.size === 0) addresses!.delete(ip);
    if (addresses!.size === 0) networks.delete(networkId);
    onChange({ networkId, ip });
  }

  function removeAll({ key, value }: EndpointState): void {
    for (const ip of addressesOf(value)) remove(key, { networkId: value.networkId, ip });
  }

  const holderOf = ({ key, value: { networkId, ip } }: EndpointState): Holder | undefined => networks.get(networkId)?.get(ip)?.get(key);

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
        for (const { record } of failure.holders) removeAll(record);
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
    } else if (!local && state.members().some(({ id, state: condition }) => id === record.owner && condition === 'dead')) fail(record);
    else removeAll(record);
  });

  function winner(holders: Iterable<Holder>): EndpointState | undefined {
    let best: Holder | undefined;
    for (const holder of holders) {
      if (holder.local) return undefined;
      if (!best || best.failure || !holder.failure) best = holder;
    }
    return best?.record;
  }

  return {
    at: ({ networkId, ip }) => winner(networks.get(networkId)?.get(ip)?.values() ?? []),
    on: (networkId) => {
      const found = new Map<string, EndpointState>();
      for (const [ip, holders] of networks.get(networkId) ?? []) {
        const record = winner(holders.values());
        if (record) found.set(ip, record);
      }
      return found;
    },
    ownedBy: (node) => [...networks].flatMap(([networkId, addresses]) =>
      [...addresses].flatMap(([ip, holders]) => (winner(holders.values())?.owner === node ? [{ networkId, ip }] : []))),
    close: () => {
      stop();
      for (const failure of failures) end(failure);
    },
  };
}
