/**
 * The fast path: packets between endpoints of two nodes without the tunnel's device, the host's rules and the queues in between, by programs at links and
 * tables of where each address is. It lies over the kernel's own path, which is complete without it and gets whatever a program does not take.
 *
 *   endpoint ── port │ uplink ══ weft-up │ NIC ~~~~ NIC │ weft-up ══ uplink │ port ── endpoint
 *           encapsulation        sender              receiver      delivery
 */
import { ipToBytes } from '../../base/ip.ts';
import { familyOf } from '../../base/prefix.ts';
import type { NodeInfo } from '../../cluster/state.ts';
import type { Repair } from '../../cnm/driver.ts';
import { createBpfArray, createBpfTable, type BpfTable } from '../../linux/bpf-table.ts';
import { hasIpsecPolicies } from '../../linux/ipsec.ts';
import type { Rtnl } from '../../linux/types.ts';
import { ensureProgram } from '../ensure.ts';
import { UPLINK } from '../names.ts';
import { KEY_BYTES, keyOf } from '../shortcuts.ts';
import type { Onward } from '../source-guard.ts';
import { FLOWS, deliveryProgram, receiverProgram, removeReceivers } from './decapsulation.ts';
import { encapsulation, senderProgram } from './encapsulation.ts';
import { networkNumber } from './vxlan-packet.ts';
import type { RemoteAddresses } from './ways.ts';

/** Endpoints on other nodes, of the networks that this node has endpoints on. What finds no room goes by the tunnel. */
const MOST_REMOTES = 1 << 16;
const MOST_NODES = 1 << 12;
const VTEP_BYTES = 4;

export interface FastPathState {
  self: NodeInfo;
  peers: readonly NodeInfo[];
  /** Index of the link by which a node is reached. */
  linkTo(vtep: string): number | undefined;
  vxlanPort: number;
  /** Whether there is a network that may use it. */
  wanted: boolean;
}

export interface FastPath {
  /** Where the addresses of a network on other nodes are entered. */
  remotes(vni: number): RemoteAddresses;
  /** What becomes of frames for other nodes at a network's ports; undefined where all of them are the tunnel's. */
  encapsulation(vni: number, mtu: number): Onward | undefined;
  /**
   * For a fabric that has been made. Where it is not to be used, its programs come off the host's links, and ports are to get theirs anew. Throws KernelError where
   * the kernel or a link does not take a program: until the next call, all is the tunnels'.
   */
  ensure(state: FastPathState): Repair[];
  close(): void;
}

/** `rtnl`: the fabric's. `places`: the table of this node's endpoints. Throws KernelError. */
export function createFastPath({ rtnl, hostRtnl }: { rtnl: Rtnl; hostRtnl: Rtnl }, places: Pick<BpfTable, 'fd' | 'id'>): FastPath {
  const remotes = createBpfTable({ key: KEY_BYTES, value: VTEP_BYTES, entries: MOST_REMOTES });
  const members = createBpfTable({ key: VTEP_BYTES, value: VTEP_BYTES, entries: MOST_NODES });
  const flows = createBpfArray({ value: 8, entries: FLOWS });
  const entered = new Set<string>();
  /** Host's links with a receiver; undefined until they have been looked for. */
  let receiving: ReadonlySet<number> | undefined;
  let ends: { local: string; port: number; uplink: number } | undefined;

  function enterMembers(vteps: ReadonlySet<string>): void {
    for (const vtep of vteps) if (!entered.has(vtep)) members.set(bytesOf(vtep), bytesOf(vtep));
    for (const vtep of entered) if (!vteps.has(vtep)) members.delete(bytesOf(vtep));
    entered.clear();
    for (const vtep of vteps) entered.add(vtep);
  }

  function setReceiving(links: ReadonlySet<number>): void {
    if (!receiving || [...receiving].some((link) => !links.has(link))) removeReceivers(hostRtnl, links);
    receiving = links;
  }

  function ensure({ self: { vtep: local }, peers, linkTo, vxlanPort: port, wanted }: FastPathState): Repair[] {
    ends = undefined;
    const [uplink, hostEnd] = [rtnl.link(UPLINK.fabric), hostRtnl.link(UPLINK.host)];
    // The host's policies are to see what they are for: by the kernel's own path they do.
    if (!wanted || familyOf(local) !== 4 || !uplink || !hostEnd || hasIpsecPolicies(hostRtnl.netns)) {
      setReceiving(new Set());
      return [];
    }
    const found: Repair[] = [];
    enterMembers(new Set(peers.map(({ vtep }) => vtep)));
    ensureProgram(hostRtnl, hostEnd, senderProgram(), found, `${UPLINK.host} did not send what ports had encapsulated`);
    ensureProgram(rtnl, uplink, deliveryProgram(), found, `${UPLINK.fabric} did not deliver what had come out of VXLAN`);
    const links = new Set(peers.flatMap(({ vtep }) => linkTo(vtep) ?? []));
    const receiver = receiverProgram({ members, places, flows, local, port, uplink: hostEnd.index });
    for (const index of links) ensureProgram(hostRtnl, { index }, receiver, receiving?.has(index) ? found : [], `link ${index} left all VXLAN to the tunnels`, 'last');
    setReceiving(links);
    ends = { local, port, uplink: uplink.index };
    return found;
  }

  return {
    remotes: (vni) => {
      const network = networkNumber(vni);
      return {
        set: (mac, vtep) => {
          const key = keyOf({ network, mac });
          try {
            remotes.set(key, bytesOf(vtep));
          } catch {
            // There is no room: it is the tunnel's, and so must be what was there before.
            remotes.delete(key);
          }
        },
        delete: (mac) => remotes.delete(keyOf({ network, mac })),
      };
    },
    encapsulation: (vni, mtu) => ends && encapsulation({ remotes, ...ends, mtu }, networkNumber(vni)),
    ensure,
    close: () => {
      for (const table of [remotes, members, flows]) table.close();
    },
  };
}

const bytesOf = (vtep: string): Buffer => Buffer.from(ipToBytes(vtep));
