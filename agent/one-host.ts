/**
 * One node, one host. Where it was when it ran last is on its disk; from there it takes its leave when it is somewhere else now, and
 * a copy of it that stays behind, or is this one, is fenced by the claim in the store.
 */
import type { Clock } from '../base/clock.ts';
import type { WeftError } from '../base/errors.ts';
import { everyAddress } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Address } from '../gossip/messages.ts';
import { openTransport } from '../gossip/net-transport.ts';
import type { LocalStore, Store } from '../store/store.ts';
import type { Config } from './config.ts';
import { claimInstance, type InstanceClaim } from './instance.ts';
import { formerAddresses, lastAddress, rememberAddress } from './original.ts';

export interface OneHostOptions {
  config: Config;
  store: Store;
  /** The store is this host's own, which knows no other. */
  isAlone: boolean;
  local: LocalStore;
  node: { id: string; name: string };
  /** Of gossip. */
  keys: readonly Uint8Array[];
  seeds(): Promise<readonly Address[]>;
  clock: Clock;
  random: Random;
  log: Logger;
  /** This host is the copy: WEFT-NODE-CLONED. */
  onCloned(error: WeftError): void;
}

export interface OneHost {
  /** The store is others' too from now on. Idempotent. */
  claim(): void;
  close(): Promise<void>;
}

/** Before this node gossips. Where the host has another address than before, it waits for the claim if the store answers; rejects with WEFT-NODE-CLONED then. */
export async function settleOnHost({ config, store, isAlone, local, node, keys, seeds, clock, random, log, onCloned }: OneHostOptions): Promise<OneHost> {
  const [movedFrom] = formerAddresses(local, config);
  let instance: InstanceClaim | undefined;
  const cloned = (error: WeftError, address: string): void => {
    // The next start asks there before it does anything.
    rememberAddress(local, address);
    onCloned(error);
  };
  const claim = (): void => {
    instance ??= claimInstance({ store, node: { ...node, address: config.advertise, movedFrom }, clock, log: log.child({ part: 'identity' }), onCloned: cloned });
  };
  if (!isAlone) claim();
  // Where it was before, nobody has to be asked: a copy would not be there.
  if (movedFrom !== undefined) await instance?.settled;

  const former = lastAddress(local);
  if (former !== undefined && former !== config.advertise) {
    const { leaveFormerAddress } = await import('../cluster/former.ts');
    const transport = await openTransport({ bind: { host: everyAddress(former), port: config.gossipPort }, advertise: { host: former, port: config.gossipPort } });
    await leaveFormerAddress({ node, transport, keys, seeds: await seeds(), clock, random, log: log.child({ part: 'gossip' }) });
  }
  rememberAddress(local, config.advertise);
  return { claim, close: async () => instance?.close() };
}
