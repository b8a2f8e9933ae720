/**
 * The fabric: the one namespace of a node that holds its overlay's bridges and tunnels, and its uplink to the host.
 * East-west traffic lives here, out of reach of the host's firewall; leaving traffic, published ports and the host's own
 * go over the uplink.
 */
import { familyOf } from '../../base/prefix.ts';
import { runAll } from '../../base/undo.ts';
import type { Repair } from '../../cnm/driver.ts';
import type { NodeInfo } from '../../cluster/state.ts';
import { openNft } from '../../linux/nft.ts';
import { createNetns, deleteNetns, isNetns, openNetns } from '../../linux/netns.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { writeSysctl } from '../../linux/sysctl.ts';
import type { Netns, Nft, Rtnl, Rule } from '../../linux/types.ts';
import { deleteLinks, ensureAddress, ensureLink, ensureRoutes, forward, linkMaker } from '../ensure.ts';
import { watchDockerBridges } from '../docker-bridges.ts';
import { ensureForwardAccepts, removeForwardAccepts } from '../forward-accepts.ts';
import { setHostSysctl, type Journal } from '../host-sysctls.ts';
import { IPV6_METRIC, disableIpv6, enableIpv6, ensureIpv6Forwarding, isIpv6On } from '../ipv6.ts';
import { UPLINK } from '../names.ts';
import { createNftTable } from '../nft-table.ts';
import { nodeAddress, nodeAddress6, nodeMark, nodeTable, sealedAddress, sealedMark, sealedTable } from './addressing.ts';
import { SEALED_LINK, createEncryption, type Encryption, type EncryptionOptions } from './encryption.ts';
import { removeReceivers } from './decapsulation.ts';
import { sealedMtus, setMtu } from './mtu.ts';
import { REMOTE_TABLE, ensureRoutedTunnel, type TunnelPeer } from './routed-tunnel.ts';
import { SEALED_TUNNEL, TUNNEL, fabricRules, hostRules } from './rules.ts';

/** The fabric's address on the uplink: the same on every node, seen by nobody else. */
const FABRIC_ADDRESS = '169.254.77.2';
/** Of the two ends of the uplink in IPv6. */
const HOST_LINK_LOCAL = 'fe80::1';
const FABRIC_LINK_LOCAL = 'fe80::2';
/**
 * Docker's own IPAM avoids prefixes with a route of link scope, and no others. Each subnet has such a route beside the
 * one that is used, as a sign: with the worst metric it carries nothing.
 */
const SIGN_METRIC = 0x7fffffff;
const MARK_PRIORITY = 100;
const UPLINK_PRIORITY = 200;

export interface FabricNetwork { subnet: string; internal: boolean; encrypted: boolean; bridge: string }

export interface FabricState {
  self: NodeInfo;
  peers: readonly NodeInfo[];
  networks: readonly FabricNetwork[];
  /** Published local backends. */
  backends: readonly { ip: string; protocol: string; port: number }[];
  /** MTU of the overlay on this node. */
  mtu: number;
  /** Of weft-in. */
  tunnelMtu: number;
  vxlanPort: number;
}

export interface Fabric {
  /** Of the nodes' own addresses. */
  readonly nodePrefix: string;
  /** It was not there before it was opened. */
  readonly fresh: boolean;
  readonly netns: Netns;
  readonly rtnl: Rtnl;
  readonly hostRtnl: Rtnl;
  /** Whether what has IPv6 addresses is reached: the host has IPv6, and there is a network with it. */
  ipv6(): boolean;
  /** Index of the fabric's end of the uplink; undefined before the first ensure. */
  uplink(): number | undefined;
  /** Of weft-in, likewise. */
  tunnel(): number | undefined;
  /** Of the one by way of WireGuard; undefined where no network is encrypted, too. */
  sealedTunnel(): number | undefined;
  readonly encryption: Pick<Encryption, 'problem' | 'lookAgain' | 'silent' | 'receivedFrom'>;
  /** Makes the fabric what `state` says; returns what was not so. */
  ensure(state: FabricState): Promise<Repair[]>;
  /** The rules alone. */
  setRules(state: FabricState): void;
  /** Takes all of it off the host; returns what could not be removed. */
  purge(): Promise<unknown[]>;
  close(): void;
}

export interface FabricOptions {
  host: Netns;
  path: string;
  /** The same on every node; each has the address of its number there. */
  nodePrefix: string;
  journal: Journal;
  wireguard: Omit<EncryptionOptions, 'host' | 'fabric'>;
}

const isSealed = ({ networks }: FabricState): boolean => networks.some(({ encrypted }) => encrypted);

export function openFabric({ host, path, nodePrefix, journal, wireguard }: FabricOptions): Fabric {
  const addressOf = (number: number): string => nodeAddress(nodePrefix, number);
  const address6Of = (number: number): string => nodeAddress6(nodePrefix, number);
  const fresh = !isNetns(path);
  const netns = fresh ? createNetns(path) : openNetns(path);
  const hostRtnl = openRtnl(host);
  const rtnl = openRtnl(netns);
  const hostNft: Nft = openNft(host);
  const fabricNft: Nft = openNft(netns);
  const hostTable = createNftTable(hostNft, 'inet weft-uplink');
  const fabricTable = createNftTable(fabricNft, 'inet weft');
  const encryption = createEncryption({ host: hostRtnl, fabric: rtnl, ...wireguard });
  let uplink: number | undefined;
  let tunnel: number | undefined;
  let sealedTunnel: number | undefined;
  let withIpv6 = false;
  let lastState: FabricState | undefined;
  const docker = watchDockerBridges(hostRtnl, () => lastState && setRules(lastState));

  function hostSysctl(name: string, value: string, found: Repair[]): void {
    const before = setHostSysctl(host, name, value, journal);
    if (before !== undefined) found.push({ what: `sysctl ${name} was ${before}` });
  }

  function fabricSysctls(): void {
    const values = {
      'net/ipv4/ip_forward': '1',
      // Nothing in the fabric has a socket: looking for one is in vain.
      'net/ipv4/ip_early_demux': '0',
      'net/ipv4/conf/all/rp_filter': '0', 'net/ipv4/conf/default/rp_filter': '0',
      // Overlay frames would pass the fabric's own IP rules a second time.
      'net/bridge/bridge-nf-call-iptables': '0', 'net/bridge/bridge-nf-call-ip6tables': '0', 'net/bridge/bridge-nf-call-arptables': '0',
      // The fabric's links would announce themselves to the tunnels otherwise; those that need IPv6 get it one by one.
      'net/ipv6/conf/all/disable_ipv6': '1', 'net/ipv6/conf/default/disable_ipv6': '1', 'net/ipv6/conf/all/forwarding': '1',
    };
    for (const [name, value] of Object.entries(values)) writeSysctl(netns, name, value);
  }

  function setRules(state: FabricState): void {
    lastState = state;
    const { self, peers, networks, backends } = state;
    hostTable.set(hostRules({
      nodeAddress: addressOf(self.number), nodeAddress6: address6Of(self.number), vxlanPort: state.vxlanPort, members: [self, ...peers].map(({ vtep }) => vtep),
      ...(isSealed(state) && { wireguard: { port: wireguard.port, places: [self, ...peers].flatMap(({ vtep, wireguard: place }) => (place ? [`${vtep} . ${place.port}`] : [])) } }),
      subnets: networks.filter(({ internal }) => !internal).map(({ subnet }) => subnet), dockerBridges: docker.names(),
    }));
    fabricTable.set(fabricRules({
      nodePrefix, nodePrefix6: `${address6Of(0)}/64`,
      peers: peers.map(({ number }) => number),
      subnets: networks.map(({ subnet }) => subnet),
      bridges: networks.map(({ bridge }) => bridge),
      internalBridges: networks.filter(({ internal }) => internal).map(({ bridge }) => bridge),
      ...(isSealed(state) && { sealed: { bridges: networks.filter(({ encrypted }) => encrypted).map(({ bridge }) => bridge), vxlanPort: state.vxlanPort } }),
      backends: backends.map(({ ip, protocol, port }) => `${ip} . ${protocol} . ${port}`),
    }));
  }

  /** Before anything is compared: nothing of it was broken. */
  function followMtu({ self, mtu, tunnelMtu }: FabricState): void {
    setMtu(hostRtnl, UPLINK.host, mtu);
    setMtu(rtnl, UPLINK.fabric, mtu);
    setMtu(rtnl, TUNNEL, tunnelMtu);
    const { link, tunnel: sealed } = sealedMtus(self, mtu);
    setMtu(rtnl, SEALED_LINK, link);
    setMtu(rtnl, SEALED_TUNNEL, sealed);
  }

  async function ensureUplink(state: FabricState, found: Repair[]): Promise<number> {
    const address = addressOf(state.self.number);
    const up = ensureLink(hostRtnl, UPLINK.host, { mtu: state.mtu, up: true }, linkMaker(hostRtnl, {
      kind: 'veth', name: UPLINK.host, mtu: state.mtu, peer: { name: UPLINK.fabric, mtu: state.mtu, netns },
    }), found);
    const inner = ensureLink(rtnl, UPLINK.fabric, { mtu: state.mtu, up: true }, () => {}, found);
    ensureAddress(hostRtnl, up, `${address}/32`, found);
    for (const stale of hostRtnl.addresses(up)) if (stale.address.includes('.') && stale.address !== `${address}/32`) hostRtnl.deleteAddress(up, stale.address);
    ensureAddress(rtnl, inner, `${FABRIC_ADDRESS}/32`, found);
    hostSysctl('net/ipv4/ip_forward', '1', found);
    // For 127.0.0.1:PORT of published ports; what comes in with such an address is dropped.
    writeSysctl(host, `net/ipv4/conf/${UPLINK.host}/route_localnet`, '1');
    for (const [where, link] of [[host, UPLINK.host], [netns, UPLINK.fabric], [netns, TUNNEL]] as const) forward(where, link);
    ensureUplinkIpv6(state, up, inner, found);
    const reachable = state.networks.filter(({ internal }) => !internal);
    const ofFamily = (networks: readonly FabricNetwork[], family: 4 | 6): string[] => networks.map(({ subnet }) => subnet).filter((subnet) => familyOf(subnet) === family);
    const address6 = address6Of(state.self.number);
    ensureRoutes(hostRtnl, [
      { dst: `${FABRIC_ADDRESS}/32`, dev: up },
      ...ofFamily(reachable, 4).map((dst) => ({ dst, via: FABRIC_ADDRESS, dev: up, src: address })),
      ...ofFamily(state.networks, 4).map((dst) => ({ dst, dev: up, metric: SIGN_METRIC })),
      ...(withIpv6 ? ofFamily(reachable, 6).map((dst) => ({ dst, via: FABRIC_LINK_LOCAL, dev: up, src: address6, metric: IPV6_METRIC })) : []),
    ], hostRtnl.routes({ table: 254, dev: up }), found);
    ensureRoutes(rtnl, [{ dst: `${address}/32`, dev: inner }], rtnl.routes({ table: 254, dev: inner }).filter(({ via }) => via === undefined), found);
    ensureRoutes(rtnl, [
      { dst: 'default', via: address, dev: inner, onlink: true },
      ...(withIpv6 ? [{ dst: 'default', via: HOST_LINK_LOCAL, dev: inner, metric: IPV6_METRIC }, { dst: `${address6}/128`, via: HOST_LINK_LOCAL, dev: inner, metric: IPV6_METRIC }] : []),
    ], rtnl.routes({ table: 254 }).filter(({ dst, dev, via }) => dst === 'default' || (dev === inner && via?.includes(':'))), found);
    return inner;
  }

  /** Only where a network has IPv6: on other hosts it stays as it is. */
  function ensureUplinkIpv6(state: FabricState, up: number, inner: number, found: Repair[]): void {
    if (!withIpv6) {
      disableIpv6(host, UPLINK.host);
      for (const link of [UPLINK.fabric, TUNNEL]) disableIpv6(netns, link);
      return;
    }
    ensureIpv6Forwarding(host, hostRtnl, journal, found);
    enableIpv6(host, UPLINK.host, { quiet: true });
    enableIpv6(netns, UPLINK.fabric, { quiet: true });
    const address = `${address6Of(state.self.number)}/128`;
    ensureAddress(hostRtnl, up, address, found);
    ensureAddress(hostRtnl, up, `${HOST_LINK_LOCAL}/64`, found);
    ensureAddress(rtnl, inner, `${FABRIC_LINK_LOCAL}/64`, found);
    const isOurs = (text: string): boolean => familyOf(text) === 4 || text.startsWith('fe80:') || text === address;
    for (const stale of hostRtnl.addresses(up)) if (!isOurs(stale.address)) hostRtnl.deleteAddress(up, stale.address);
  }

  /** The one that all nodes have, and one by way of WireGuard where there is an encrypted network. */
  async function ensureTunnels(state: FabricState, found: Repair[]): Promise<void> {
    const { self, peers, mtu, tunnelMtu, vxlanPort: port } = state;
    const peerOf = ({ number }: NodeInfo, vtep: string): TunnelPeer => ({ number, vtep, address: addressOf(number), address6: address6Of(number) });
    tunnel = await ensureRoutedTunnel(
      rtnl, { name: TUNNEL, number: self.number, local: self.vtep, port, mtu: tunnelMtu, socket: hostRtnl, table: nodeTable, toNodes: true }, peers.map((peer) => peerOf(peer, peer.vtep)), withIpv6, found,
    );
    if (isSealed(state)) {
      const sealed = sealedMtus(self, mtu);
      encryption.ensure(self, peers, sealed.link, found);
      sealedTunnel = await ensureRoutedTunnel(
        rtnl, { name: SEALED_TUNNEL, number: self.number, local: sealedAddress(self.number), port, mtu: sealed.tunnel, socket: rtnl, table: sealedTable, toNodes: false },
        peers.filter(({ wireguard }) => wireguard).map((peer) => peerOf(peer, sealedAddress(peer.number))), withIpv6, found,
      );
      forward(netns, SEALED_TUNNEL);
    } else {
      sealedTunnel = undefined;
      await rtnl.deleteLink(SEALED_TUNNEL);
      await encryption.remove();
    }
  }

  function ensureRules(state: FabricState, found: Repair[]): void {
    const tables = state.peers.flatMap(({ number }) => [[nodeMark(number), nodeTable(number)] as const, ...(isSealed(state) ? [[sealedMark(number), sealedTable(number)] as const] : [])]);
    const ofIpv4 = [
      { priority: UPLINK_PRIORITY, table: REMOTE_TABLE, iif: UPLINK.fabric },
      ...tables.map(([fwmark, table]) => ({ priority: MARK_PRIORITY, table, fwmark, fwmask: 0xffffffff })),
    ];
    const wanted: Rule[] = [...ofIpv4, ...(withIpv6 ? ofIpv4.map((rule) => ({ family: 6 as const, ...rule })) : [])];
    const key = (rule: { family?: number; priority: number; table: number; iif?: string; fwmark?: number }): string => `${rule.family ?? 4} ${rule.priority} ${rule.table} ${rule.iif ?? ''} ${rule.fwmark ?? ''}`;
    const present = rtnl.rules().filter(({ priority }) => priority === UPLINK_PRIORITY || priority === MARK_PRIORITY);
    const has = new Set(present.map(key));
    const right = new Set(wanted.map(key));
    for (const rule of wanted) {
      if (has.has(key(rule))) continue;
      rtnl.addRule(rule);
      found.push({ what: `routing rule to table ${rule.table} was missing` });
    }
    for (const rule of present) {
      if (right.has(key(rule))) continue;
      rtnl.deleteRule(rule);
      found.push({ what: `routing rule to table ${rule.table} was stale` });
    }
  }

  return {
    nodePrefix, fresh, netns, rtnl, hostRtnl, setRules,
    ipv6: () => withIpv6,
    uplink: () => uplink,
    tunnel: () => tunnel,
    sealedTunnel: () => sealedTunnel,
    encryption,
    ensure: async (state) => {
      const found: Repair[] = [];
      if (lastState && (lastState.mtu !== state.mtu || lastState.tunnelMtu !== state.tunnelMtu)) followMtu(state);
      withIpv6 = state.networks.some(({ subnet }) => familyOf(subnet) === 6) && isIpv6On(host);
      fabricSysctls();
      rtnl.setLink(rtnl.link('lo')!.index, { up: true });
      // Rules first: there is no moment in which packets pass that they would stop.
      setRules(state);
      if (hostTable.repair()) found.push({ what: 'nftables: table inet weft-uplink of the host was changed' });
      if (fabricTable.repair()) found.push({ what: 'nftables: table inet weft of the fabric was changed' });
      uplink = await ensureUplink(state, found);
      await ensureTunnels(state, found);
      ensureRules(state, found);
      if (ensureForwardAccepts(hostNft, UPLINK.host, withIpv6 ? [4, 6] : [4])) found.push({ what: 'the host\'s FORWARD chain did not accept the uplink' });
      return found;
    },
    purge: async () => {
      const { errors } = await runAll([
        () => removeForwardAccepts(hostNft, UPLINK.host),
        () => hostTable.remove(),
        () => removeReceivers(hostRtnl),
        () => hostRtnl.deleteLink(UPLINK.host),
        // A device outlives its namespace's name for as long as anybody has the namespace open.
        () => deleteLinks(rtnl, ({ kind }) => kind !== undefined),
        () => deleteNetns(path),
      ]);
      return errors;
    },
    close: () => {
      docker.close();
      encryption.close();
      for (const each of [hostNft, fabricNft, hostRtnl, rtnl, netns]) each.close();
    },
  };
}
