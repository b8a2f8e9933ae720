/**
 * Endpoints that Docker has forgotten: after a crash of its own, or of the host, it says nothing about the old ones, and shows by
 * what it asks for that it does not know them.
 */
import type { Clock } from '../../base/clock.ts';
import { WeftError, errorText } from '../../base/errors.ts';
import { withoutLength } from '../../base/ip.ts';
import type { Logger } from '../../base/log.ts';
import type { Controller, Endpoints } from '../../cnm/controller.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import { isNetns } from '../../linux/netns.ts';

export interface ForgottenEndpoints {
  /**
   * Removes those that are older than `olderThanMs` and have no sandbox, each for itself: one that cannot be removed keeps nothing
   * else. Younger ones may be between Join and their sandbox's appearance, or between two calls of one start.
   */
  removeOld(olderThanMs: number): Promise<void>;
  /**
   * Docker deletes an endpoint before it releases its address. After it was killed it releases the addresses of before, as
   * soon as it starts, and says nothing of their endpoints.
   */
  removeReleased(networkId: string, address: string): Promise<void>;
  /** Docker deletes a network when it knows of no endpoint on it. */
  removeOn(networkId: string): Promise<void>;
  /** A dockerd uses that driver for the first time: what is there was made for another one, which is no more. */
  daemonStarted(driver: string): void;
  /**
   * Makes a request for these addresses ('ip' or 'ip/length'), and once more when one was an endpoint's that Docker forgot, for
   * sure: its sandbox is gone, and it was made for an earlier dockerd or is not in Docker's list.
   */
  withAddresses<T>(networkId: string, addresses: readonly string[], request: () => Promise<T>): Promise<T>;
}

export interface ForgottenEndpointsOptions {
  endpoints: Pick<Endpoints, 'list'>;
  network(id: string): Pick<Network, 'driver'> | undefined;
  controller: Pick<Controller, 'deleteEndpoint'>;
  /** Endpoints that are not Docker's. */
  isNative(endpointId: string): boolean;
  revoke(endpointId: string): Promise<void>;
  /** The endpoints that Docker lists on a network; undefined when it does not say. */
  listed(networkId: string): Promise<ReadonlySet<string> | undefined>;
  clock: Clock;
  log: Logger;
}

export function createForgottenEndpoints({ endpoints, network, controller, isNative, revoke, listed, clock, log }: ForgottenEndpointsOptions): ForgottenEndpoints {
  /** Endpoint → when it was made, on the clock: the time of day may be set in the middle of a start. */
  const made = new Map<string, number>();
  let isFirst = true;
  /** Made for an earlier dockerd. */
  const former = new Set<string>();

  function note(): void {
    const present = new Set<string>();
    for (const { id, createdAt } of endpoints.list()) {
      present.add(id);
      // Of what an earlier weftd has made, the time of day is all that is known.
      if (!made.has(id)) made.set(id, clock.now() - (isFirst ? Math.max(0, clock.wallNow() - Date.parse(createdAt)) : 0));
    }
    for (const id of made.keys()) if (!present.has(id)) made.delete(id);
    isFirst = false;
  }

  async function remove(id: string, why: string, options?: { forgotten: true }): Promise<void> {
    log.info({ endpoint: id.slice(0, 12) }, `${why}: removed`);
    await revoke(id);
    await controller.deleteEndpoint(id, options);
    former.delete(id);
  }

  const hasSandbox = ({ sandbox }: Endpoint): boolean => sandbox !== undefined && isNetns(sandbox);

  /** Without a sandbox path it may be in the middle of a regular end, after which Docker releases the address: that must not hit a new holder. */
  const isForgotten = (endpoint: Endpoint, inList: ReadonlySet<string> | undefined): boolean =>
    former.has(endpoint.id) || (endpoint.sandbox !== undefined && inList !== undefined && !inList.has(endpoint.id));

  async function removeHolders(networkId: string, addresses: readonly string[]): Promise<boolean> {
    const wanted = new Set(addresses.map(withoutLength));
    const holders = (): Endpoint[] => endpoints.list().filter((each) =>
      each.networkId === networkId && [each.address, each.addressIpv6].some((address) => address !== undefined && wanted.has(withoutLength(address))) && !hasSandbox(each) && !isNative(each.id));
    if (holders().length === 0) return false;
    const inList = await listed(networkId);
    const gone = holders().filter((each) => isForgotten(each, inList));
    for (const { id } of gone) await remove(id, 'Docker asks for the address of an endpoint that it forgot', { forgotten: true });
    return gone.length > 0;
  }

  return {
    removeOld: async (olderThanMs) => {
      note();
      for (const endpoint of endpoints.list()) {
        if (clock.now() - (made.get(endpoint.id) ?? clock.now()) < olderThanMs || isNative(endpoint.id) || hasSandbox(endpoint)) continue;
        try {
          await remove(endpoint.id, 'the sandbox of an endpoint is gone', { forgotten: true });
        } catch (error) {
          log.warn({ endpoint: endpoint.id.slice(0, 12), detail: errorText(error) }, 'an endpoint that Docker forgot could not be removed; tried again at the next repair');
        }
      }
    },

    removeReleased: async (networkId, address) => {
      for (const { id, networkId: on, address: ipv4, heldAs, addressIpv6, heldAsIpv6 } of endpoints.list()) {
        const held = [heldAs === undefined ? undefined : ipv4, heldAsIpv6 === undefined ? undefined : addressIpv6];
        if (on !== networkId || !held.some((each) => each !== undefined && withoutLength(each) === address)) continue;
        await remove(id, 'Docker released the address of an endpoint and forgot the endpoint');
      }
    },

    removeOn: async (networkId) => {
      for (const { id, networkId: on } of endpoints.list()) {
        if (on === networkId && !isNative(id)) await remove(id, 'Docker deletes the network of an endpoint that it forgot', { forgotten: true });
      }
    },

    daemonStarted: (driver) => {
      const present = endpoints.list();
      for (const id of former) if (!present.some((each) => each.id === id)) former.delete(id);
      for (const { id, networkId } of present) if (network(networkId)?.driver === driver) former.add(id);
    },

    withAddresses: async (networkId, addresses, request) => {
      try {
        return await request();
      } catch (error) {
        if (!(error instanceof WeftError) || error.code !== 'WEFT-ADDRESS-IN-USE' || !await removeHolders(networkId, addresses)) throw error;
        return request();
      }
    },
  };
}
