/**
 * An endpoint's veth pair, the same for all drivers: one end stands in the host namespace for Docker to move into the
 * sandbox, the other is a port of the network's bridge.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { withoutLength } from '../base/ip.ts';
import { contains, familyOf, parsePrefix } from '../base/prefix.ts';
import type { Repair } from '../cnm/driver.ts';
import type { Endpoint, JoinAnswer, Network, Subnet } from '../cnm/model.ts';
import type { BpfTable } from '../linux/bpf-table.ts';
import type { BridgePort, IngressProgram, Link, Rtnl } from '../linux/types.ts';
import { alignLink, ensureProgram } from './ensure.ts';
import { ensureLimits, type Rates } from './limits.ts';
import { bridgeEnd, hostEnd, limiter } from './names.ts';
import { interfacePrefix } from './options.ts';
import { ensurePairMtu } from './pair-mtu.ts';
import { createShortcuts, type Ways } from './shortcuts.ts';
import { sourceGuard, sourceOf, type Onward } from './source-guard.ts';

/**
 * A bridge of the host's needs `hairpin`: where br_netfilter is loaded (Docker does), a container that asks for its own
 * published port is sent back by the bridge itself, through the port it came in by. `anySource`: the endpoint may send from any IP address.
 */
export interface PortOptions {
  hairpin?: boolean;
  /** No frames pass between it and other such ports. */
  isolated?: boolean;
  anySource?: boolean;
  rates?: Rates;
  /** What tells the network from others where frames go past bridges; by default the bridge's index. */
  network?: number;
  /** Where frames may go past the bridge. What endpoints with published ports send is routed. */
  ways?: Ways;
}

/** Makes and removes a driver's pairs. `inside` is where the bridge lives, `bridge` its index there. */
export interface Pairs {
  /** The table of where endpoints are. */
  readonly places: Pick<BpfTable, 'fd' | 'id'>;
  /** Makes the pair unless it is there, and finishes one that is half made. */
  make(inside: Rtnl, endpoint: Endpoint, bridge: number, mtu: number, options?: PortOptions): void;
  /**
   * The same, a moment later: having the answer to CreateEndpoint, Docker writes to its disk for longer than this takes. Join, which comes to
   * `make`, tells what stands in the way.
   */
  makeSoon: Pairs['make'];
  /** A port whose pair is gone is left alone: its container has lost its interface, and only its restart can bring another. */
  ensure(inside: Rtnl, endpoint: Endpoint, bridge: number, mtu: number, found: Repair[], options?: PortOptions): void;
  /** Of a pair that is there, both ends; without a word, as another MTU is no damage. */
  setMtu(inside: Rtnl, endpoint: Endpoint, mtu: number): void;
  /** Frames come out of the bridge's port `link` for endpoints behind other ones. `gateway`: without a `port` the bridge itself. */
  ensureTrunk(inside: Rtnl, link: Pick<Link, 'index' | 'name'>, network: number, gateway: { mac: string; port?: number }, found: Repair[]): void;
  /** It is going. */
  forgetTrunk(link: string): void;
  /** Enters an endpoint whose port is there: where all of them are known, ports get more ways past their bridge. */
  enter(inside: Rtnl, endpoint: Endpoint, bridge: number, options?: PortOptions): void;
  /** All endpoints of the network have been made or entered since this was created. */
  complete(network: number): void;
  isComplete(network: number): boolean;
  /** By the bridge's end: wherever Docker left the other one, it goes with it. */
  remove(inside: Rtnl, endpoint: Endpoint): Promise<void>;
  /** These addresses are asked by way of other nodes, which have to get the answers: what comes from them is routed. */
  stay(ips: readonly string[]): void;
  close(): void;
}

export function createPairs(host: Rtnl): Pairs {
  const soon = new Map<string, NodeJS.Immediate>();
  const cancel = (id: string): void => {
    clearImmediate(soon.get(id));
    soon.delete(id);
  };
  const shortcuts = createShortcuts();
  /** Endpoints whose pairs are on their way out: until they are gone a repair may still see them. */
  const going = new Set<string>();
  /** A bridge of the host's has rules to ask about its frames; one of isolated ports keeps them apart. What is limited waits at its port. */
  const onwardOf = (inside: Rtnl, bridge: number, { isolated = false, anySource = false, rates = {}, network = bridge, ways = {} }: PortOptions): Onward | undefined =>
    (inside === host || isolated || rates.out !== undefined ? undefined : shortcuts.from(network, { ...ways, out: anySource ? undefined : ways.out }));
  const enter = (inside: Rtnl, { id, mac, address, ports }: Endpoint, bridge: number, port: number, { isolated = false, rates = {}, network = bridge }: PortOptions): void => {
    if (inside !== host) shortcuts.set(id, { network, mac, ip: address && withoutLength(address), port: isolated || rates.in !== undefined ? undefined : port, leaves: ports.length === 0 });
  };
  const make: Pairs['make'] = (inside, endpoint, bridge, mtu, options = {}) => {
    cancel(endpoint.id);
    const port = makePair(host, inside, endpoint, bridge, mtu, options, onwardOf(inside, bridge, options));
    enter(inside, endpoint, bridge, port, options);
  };
  return {
    places: shortcuts.table,
    make,
    makeSoon: (...pair) => {
      const { id } = pair[1];
      cancel(id);
      soon.set(id, setImmediate(() => {
        try {
          make(...pair);
        } catch {
          // Join comes to the same, and has somebody to tell.
        }
      }));
    },
    ensure: (inside, endpoint, bridge, mtu, found, options = {}) => {
      // Its entry would stay for good, and whoever has its address next, on another node, would not be reached from here.
      if (going.has(endpoint.id)) return;
      const link = inside.link(bridgeEnd(endpoint.id));
      if (!link) {
        shortcuts.forget(endpoint.id);
        return;
      }
      ensurePairMtu(host, inside, link, endpoint, mtu, found);
      ensurePort(inside, link, endpoint, bridge, found, options, onwardOf(inside, bridge, options));
      enter(inside, endpoint, bridge, link.index, options);
    },
    setMtu: (inside, endpoint, mtu) => {
      const link = going.has(endpoint.id) ? undefined : inside.link(bridgeEnd(endpoint.id));
      if (link) ensurePairMtu(host, inside, link, endpoint, mtu, []);
    },
    ensureTrunk: (inside, link, network, { mac, port }, found) => {
      shortcuts.set(link.name, { network, mac, port, leaves: false });
      ensureProgram(inside, link, shortcuts.trunkProgram(network), found, `what came in by ${link.name} all went by its bridge`);
    },
    forgetTrunk: shortcuts.forget,
    enter: (inside, endpoint, bridge, options = {}) => {
      const port = going.has(endpoint.id) ? undefined : inside.glance(bridgeEnd(endpoint.id));
      if (port) enter(inside, endpoint, bridge, port.index, options);
    },
    complete: shortcuts.complete,
    isComplete: shortcuts.isComplete,
    remove: async (inside, { id }) => {
      cancel(id);
      shortcuts.forget(id);
      going.add(id);
      try {
        await inside.deleteLink(bridgeEnd(id));
        await inside.deleteLink(limiter(id));
      } finally {
        going.delete(id);
      }
    },
    stay: shortcuts.stay,
    close: shortcuts.close,
  };
}

/** Returns the port's index. */
function makePair(host: Rtnl, inside: Rtnl, endpoint: Endpoint, bridge: number, mtu: number, options: PortOptions, onward: Onward | undefined): number {
  const port = bridgeEnd(endpoint.id);
  const present = inside.glance(port);
  if (present?.up) return present.index;
  const index = present?.index ?? inside.addLink({
    kind: 'veth', name: port, mtu, master: bridge,
    peer: { name: hostEnd(endpoint.id), mtu, mac: endpoint.mac, ...(inside !== host && { netns: host.netns }) },
  });
  ensureLimits(inside, { index, name: port }, endpoint.id, options.rates ?? {}, []);
  inside.together(() => {
    if (present) inside.setLink(index, { master: bridge });
    setPort(inside, index, options);
    inside.addPortMac(index, endpoint.mac);
    inside.setIngressProgram(index, guardOf(endpoint, options, onward));
  });
  // Only when all of that has been done does anything pass: a port that is up is whole.
  inside.setLink(index, { up: true });
  return index;
}

/** Of every port: it learns nothing, since all addresses are entered; the rest is the kernel's own default, put back where somebody changed it. */
export const OPEN_PORT: BridgePort = { learning: false, neighSuppress: false, hairpin: false, isolated: false, flood: true, multicastFlood: true, broadcastFlood: true, locked: false };

/** The bridge knows the endpoint's address from us and learns none: a container cannot draw another one's traffic to itself. */
function setPort(inside: Rtnl, port: number, { hairpin = false, isolated = false }: PortOptions): void {
  inside.setBridgePort(port, { ...OPEN_PORT, hairpin, isolated });
}

/** Links that may be there for an endpoint. */
export const linksOf = ({ id }: Endpoint): string[] => [bridgeEnd(id), limiter(id)];

/** Each in a turn of its own, since there may be many; endpoints come and go meanwhile. */
export async function ensurePorts(inside: Rtnl, endpoints: readonly Endpoint[], ensure: (endpoint: Endpoint) => void): Promise<void> {
  for (const endpoint of endpoints) {
    try {
      ensure(endpoint);
    } catch (error) {
      // It may be going this very moment, on the slow lane.
      if (inside.link(bridgeEnd(endpoint.id))) throw error;
    }
    await nextTurn();
  }
}

function ensurePort(inside: Rtnl, link: Link, endpoint: Endpoint, bridge: number, found: Repair[], options: PortOptions, onward: Onward | undefined): void {
  ensureProgram(inside, link, guardOf(endpoint, options, onward), found, `what port ${link.name} lets in was not held to the endpoint's addresses`);
  ensureLimits(inside, link, endpoint.id, options.rates ?? {}, found);
  alignLink(inside, link, { master: bridge, up: link.up }, found);
  // The flags are lost when a port changes its bridge, and nothing shows them cheaply.
  setPort(inside, link.index, options);
  if (!inside.portMacs(link.index).includes(endpoint.mac)) {
    inside.addPortMac(link.index, endpoint.mac);
    found.push({ what: `the address of port ${link.name} was missing` });
  }
  // Last, as when it is made: nothing passes that one of those would stop.
  alignLink(inside, link, { up: true }, found);
}

const guardOf = (endpoint: Endpoint, { anySource = false }: PortOptions, onward: Onward | undefined): IngressProgram => sourceGuard({ ...sourceOf(endpoint), anyIp: anySource }, onward);

/**
 * The gateway is that of the endpoint's own subnet; the network's other subnets are on the same link. No gateway on
 * internal networks: Docker would give their containers a way out by it.
 */
export function joinAnswer(network: Network, endpoint: Endpoint): JoinAnswer {
  const ownOf = (address: string | undefined): Subnet | undefined =>
    (address === undefined ? undefined : network.subnets.find(({ subnet }) => contains(parsePrefix(subnet)!, withoutLength(address))));
  const [own, ownIpv6] = [ownOf(endpoint.address), ownOf(endpoint.addressIpv6)];
  const others = network.subnets.filter((each) => each !== own && each !== ownIpv6);
  return {
    sourceName: hostEnd(endpoint.id),
    prefix: interfacePrefix(network),
    ...(!network.internal && own?.gateway !== undefined && { gateway: own.gateway }),
    ...(!network.internal && ownIpv6?.gateway !== undefined && { gatewayIpv6: ownIpv6.gateway }),
    routes: others.filter(({ subnet }) => (familyOf(subnet) === 4 ? endpoint.address : endpoint.addressIpv6) !== undefined).map(({ subnet }) => ({ destination: subnet })),
  };
}
