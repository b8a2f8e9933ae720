/**
 * Drives drivers and addresses for every front end (Docker's plugin calls and the native API alike). All calls of one
 * network are serialised; each call may be repeated; what was answered is known to the next process before the answer leaves.
 */
import { weftError } from '../base/errors.ts';
import { ipToBytes, withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import type { Family } from '../base/prefix.ts';
import { runAll, withUndo, type UndoStack } from '../base/undo.ts';
import { mend, type Driver, type Repair } from './driver.ts';
import { nameOf, type Endpoint, type JoinAnswer, type Network, type PortMapping } from './model.ts';
import { createSerializer } from './serialize.ts';

/** The networks this node knows; a cluster's network is there as soon as the store said so. */
export interface Networks {
  get(id: string): Network | undefined;
  list(): Network[];
}

/** This node's endpoints; they outlive the process. */
export interface Endpoints {
  get(id: string): Endpoint | undefined;
  list(): Endpoint[];
  put(endpoint: Endpoint): void;
  delete(id: string): void;
}

/** Whose the addresses are. */
export type AddressHolder = Pick<Endpoint, 'id' | 'address' | 'addressIpv6' | 'heldAs' | 'heldAsIpv6'>;

/** The claims on an endpoint's addresses. */
export interface AddressClaims {
  /** Claims `wanted` ('ip/length', chosen by Docker's own IPAM or the user) or chooses; returns 'ip/length', undefined where the network has no addresses of that family. */
  claim(network: Network, endpointId: string, family: Family, wanted: string | undefined): Promise<string | undefined>;
  /** Whose the claim on an address ('ip/length') is; undefined when there is none on this node. */
  holderOf(network: Network, address: string): string | undefined;
  /** All of them, but those that have become another's meanwhile. */
  release(network: Network, holder: AddressHolder): Promise<void>;
}

export interface EndpointRequest {
  networkId: string;
  id: string;
  /** 'ip/length'. */
  address?: string;
  /** 'ip/length'. */
  addressIpv6?: string;
  /** The addresses were claimed before, through the IPAM driver, by which they are released as well. */
  addressHeld?: boolean;
  mac?: string;
  ports?: PortMapping[];
  options?: Record<string, string>;
}

export interface ControllerEvents {
  joined(network: Network, endpoint: Endpoint): void;
  left(network: Network, endpoint: Endpoint): void;
}

export interface ControllerOptions {
  drivers: readonly Driver[];
  networks: Networks;
  endpoints: Endpoints;
  addresses: AddressClaims;
  events: ControllerEvents;
  log: Logger;
}

export interface Controller {
  driver(name: string): Driver;
  /** Checks a network before it is stored; throws WeftError. */
  validate(network: Network): void;
  /** Makes what this node needs for a stored network. */
  createNetwork(network: Network): Promise<void>;
  /** Removes a network's kernel objects. Throws WEFT-NETWORK-BUSY while this node has endpoints on it. */
  deleteNetwork(network: Network): Promise<void>;
  createEndpoint(request: EndpointRequest): Promise<Endpoint>;
  /** `forgotten`: Docker knows nothing of it any more, and will not release its address. */
  deleteEndpoint(id: string, options?: { forgotten?: boolean }): Promise<void>;
  join(id: string, sandbox: string): Promise<JoinAnswer>;
  leave(id: string): Promise<void>;
  repair(): Promise<Repair[]>;
}

export function createController(options: ControllerOptions): Controller {
  const { drivers, networks, endpoints, addresses, events, log } = options;
  const serialize = createSerializer();
  const byName = new Map(drivers.map((driver) => [driver.name, driver]));

  const driver = (name: string): Driver => {
    const found = byName.get(name);
    if (!found) throw weftError('WEFT-DRIVER-UNKNOWN', { driver: name, known: [...byName.keys()].join(', ') });
    return found;
  };

  const network = (id: string): Network => {
    const found = networks.get(id);
    if (!found) throw weftError('WEFT-NETWORK-UNKNOWN', { network: id.slice(0, 12) });
    return found;
  };

  const existing = (id: string): Endpoint => {
    const found = endpoints.get(id);
    if (!found) throw weftError('WEFT-ENDPOINT-UNKNOWN', { endpoint: id.slice(0, 12) });
    return found;
  };

  function macFor(on: Network, wanted: string | undefined): string | undefined {
    const shared = driver(on.driver).sharedMac?.(on);
    if (shared !== undefined && wanted && wanted !== shared) throw weftError('WEFT-MAC-SHARED', { mac: wanted, network: nameOf(on), shared });
    return shared ?? (wanted || undefined);
  }

  async function addressesFor(on: Network, { id, address, addressIpv6, addressHeld }: EndpointRequest, undo: UndoStack): Promise<Omit<AddressHolder, 'id'>> {
    const holderOf = (held: string): string => addresses.holderOf(on, held) ?? 'nobody';
    if (addressHeld) {
      return {
        ...(address !== undefined && { address, heldAs: holderOf(address) }),
        ...(addressIpv6 !== undefined && { addressIpv6, heldAsIpv6: holderOf(addressIpv6) }),
      };
    }
    const ipv4 = await addresses.claim(on, id, 4, address);
    if (ipv4 !== undefined) undo.push(() => addresses.release(on, { id, address: ipv4 }));
    const ipv6 = await addresses.claim(on, id, 6, addressIpv6);
    if (ipv6 !== undefined) undo.push(() => addresses.release(on, { id, addressIpv6: ipv6 }));
    return { ...(ipv4 !== undefined && { address: ipv4 }), ...(ipv6 !== undefined && { addressIpv6: ipv6 }) };
  }

  async function leaveNow(endpoint: Endpoint): Promise<void> {
    const { sandbox: _, ...outside } = endpoint;
    endpoints.put(outside);
    const on = networks.get(endpoint.networkId);
    if (!on) return;
    events.left(on, endpoint);
    await driver(on.driver).leave(on, outside);
  }

  return {
    driver,
    validate: (candidate) => driver(candidate.driver).validate(candidate),
    createNetwork: (candidate) => serialize(candidate.id, () => driver(candidate.driver).createNetwork(candidate)),

    deleteNetwork: (doomed) => serialize(doomed.id, async () => {
      const busy = endpoints.list().filter((endpoint) => endpoint.networkId === doomed.id);
      if (busy.length > 0) {
        throw weftError('WEFT-NETWORK-BUSY', { network: doomed.name, endpoints: busy.map((endpoint) => endpoint.id.slice(0, 12)).join(', ') });
      }
      await driver(doomed.driver).deleteNetwork(doomed);
    }),

    createEndpoint: (request) => serialize(request.networkId, () => withUndo(async (undo) => {
      const on = network(request.networkId);
      const known = endpoints.get(request.id);
      if (known) return known;
      const held = await addressesFor(on, request, undo);
      const endpoint: Endpoint = {
        id: request.id,
        networkId: on.id,
        ...held,
        mac: macFor(on, request.mac) ?? macOf(held.address ?? held.addressIpv6),
        ports: request.ports ?? [],
        options: request.options ?? {},
        createdAt: new Date().toISOString(),
      };
      // Written down before it is made: a crash in between leaves an endpoint whose link the next start makes, never a link nobody knows.
      endpoints.put(endpoint);
      undo.push(() => endpoints.delete(endpoint.id));
      undo.push(() => driver(on.driver).deleteEndpoint(on, endpoint));
      await driver(on.driver).createEndpoint(on, endpoint);
      return endpoint;
    })),

    deleteEndpoint: async (id, { forgotten = false } = {}) => {
      const doomed = endpoints.get(id);
      if (!doomed) return;
      await serialize(doomed.networkId, async () => {
        const endpoint = endpoints.get(id);
        if (!endpoint) return;
        const on = networks.get(endpoint.networkId);
        const { errors } = await runAll([
          () => (endpoint.sandbox === undefined ? undefined : leaveNow(endpoint)),
          () => on && driver(on.driver).deleteEndpoint(on, endpoint),
          // Docker's own release comes after this: by then the address may be another container's.
          () => (isHeld(endpoint) && !forgotten ? undefined : on && addresses.release(on, endpoint)),
          () => endpoints.delete(id),
        ]);
        for (const error of errors) log.warn({ err: error, endpoint: id.slice(0, 12) }, 'deleting an endpoint left something to repair');
      });
    },

    join: async (id, sandbox) => serialize(existing(id).networkId, async () => {
      const endpoint: Endpoint = { ...existing(id), sandbox };
      const on = network(endpoint.networkId);
      const answer = await driver(on.driver).join(on, endpoint);
      endpoints.put(endpoint);
      events.joined(on, endpoint);
      return answer;
    }),

    leave: async (id) => {
      const known = endpoints.get(id);
      if (!known) return;
      await serialize(known.networkId, async () => {
        // As it is when its turn comes: it may be on its way in, or gone.
        const endpoint = endpoints.get(id);
        if (endpoint?.sandbox !== undefined) await leaveNow(endpoint);
      });
    },

    repair: async () => {
      const repairs: Repair[] = [];
      for (const each of drivers) {
        // Read anew for each: a driver takes for a leftover what is in the kernel and not among these.
        const mine = endpoints.list();
        const own = networks.list().filter((candidate) => candidate.driver === each.name);
        const ids = new Set(own.map((candidate) => candidate.id));
        await mend(`what is of driver ${each.name}`, repairs, async () => {
          repairs.push(...await each.repair(own, mine.filter((endpoint) => ids.has(endpoint.networkId))));
        });
      }
      return repairs;
    },
  };
}

/** Docker releases the addresses itself. */
const isHeld = ({ heldAs, heldAsIpv6 }: Endpoint): boolean => heldAs !== undefined || heldAsIpv6 !== undefined;

/**
 * Docker's own rule (02:42 and the four bytes of the address), so that a restarted container keeps its MAC with its
 * address. Of an IPv6 address the four bytes are its interface identifier (RFC 4291 §2.5.1), folded.
 */
function macOf(address: string | undefined): string {
  const bytes = address === undefined ? crypto.getRandomValues(new Uint8Array(4)) : ipToBytes(withoutLength(address));
  const four = bytes.length === 4 ? bytes : bytes.subarray(8, 12).map((byte, i) => byte ^ bytes[12 + i]!);
  return ['02', '42', ...Array.from(four, (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
