/**
 * Which addresses are on other nodes, by soft state. An address may have several records for a moment (it moves, and the
 * old owner's word comes late): the newest counts, and nobody's counts against this node's own.
 */
import type { Clock, TimerHandle } from '../../base/clock.ts';
import type { SoftState, StateRecord } from '../../cluster/state.ts';

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
  on(networkId: string): EndpointState[];
  ownedBy(node: string): Place[];
  close(): void;
}

interface Holder { record: EndpointState; local: boolean; failed: boolean }

/** `onChange` is called for each address that may have changed, also while this is created. */
export function watchRemoteEndpoints(state: SoftState, clock: Clock, onChange: (place: Place) => void): RemoteEndpoints {
  /** Network → address → endpoint → its record; the newest last. */
  const networks = new Map<string, Map<string, Map<string, Holder>>>();
  /** Holders of failed nodes, by node. */
  const failures = new Map<string, { holders: Set<Holder>; timer: TimerHandle }>();

  function put(record: EndpointState, local: boolean): void {
    const { networkId, ip } = record.value;
    const addresses = networks.get(networkId) ?? new Map<string, Map<string, Holder>>();
    networks.set(networkId, addresses);
    const holders = addresses.get(ip) ?? new Map<string, Holder>();
    addresses.set(ip, holders);
    holders.delete(record.key);
    holders.set(record.key, { record, local, failed: false });
    onChange(record.value);
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

  function fail(record: EndpointState): void {
    const holder = networks.get(record.value.networkId)?.get(record.value.ip)?.get(record.key);
    if (!holder) return;
    const failure = failures.get(record.owner) ?? {
      holders: new Set<Holder>(),
      timer: clock.setTimeout(() => {
        for (const { record: { key, value } } of failures.get(record.owner)?.holders ?? []) remove(key, value);
      }, FAILED_NODE_GRACE_MS),
    };
    failures.set(record.owner, failure);
    failure.holders.add(holder);
    holder.failed = true;
    onChange(record.value);
  }

  /** It returned, or is gone for good. */
  function forgive(holder: Holder): void {
    const failure = failures.get(holder.record.owner);
    if (!failure?.holders.delete(holder) || failure.holders.size > 0) return;
    clock.clearTimeout(failure.timer);
    failures.delete(holder.record.owner);
  }

  const stop = state.watch('endpoint', (change) => {
    const { record, local } = change;
    if (change.type === 'put') {
      const holder = networks.get(record.value.networkId)?.get(record.value.ip)?.get(record.key);
      if (holder) forgive(holder);
      if (change.previous && change.previous.ip !== record.value.ip) remove(record.key, change.previous);
      put(record, local);
    } else if (!local && state.members().some(({ id, state: condition }) => id === record.owner && condition === 'dead')) fail(record);
    else remove(record.key, record.value);
  });

  function winner(holders: Iterable<Holder>): EndpointState | undefined {
    let best: Holder | undefined;
    for (const holder of holders) {
      if (holder.local) return undefined;
      if (!best || best.failed || !holder.failed) best = holder;
    }
    return best?.record;
  }

  return {
    at: ({ networkId, ip }) => winner(networks.get(networkId)?.get(ip)?.values() ?? []),
    on: (networkId) => [...networks.get(networkId)?.values() ?? []].flatMap((holders) => winner(holders.values()) ?? []),
    ownedBy: (node) => [...networks].flatMap(([networkId, addresses]) =>
      [...addresses].flatMap(([ip, holders]) => (winner(holders.values())?.owner === node ? [{ networkId, ip }] : []))),
    close: () => {
      stop();
      for (const { timer } of failures.values()) clock.clearTimeout(timer);
    },
  };
}
