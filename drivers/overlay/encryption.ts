/**
 * What encrypts the nodes' tunnels: one WireGuard link in the fabric, whose sealed packets leave from the host. Inside of it the nodes have
 * addresses of their own, and the tunnels of encrypted networks run between those.
 */
import type { Clock } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { NodeInfo, WireguardPlace } from '../../cluster/state.ts';
import type { Repair } from '../../cnm/driver.ts';
import { openWireguard, type Wireguard } from '../../linux/wireguard.ts';
import type { WireguardPeer, WireguardPeerState } from '../../linux/wireguard-messages.ts';
import { KernelError, type Rtnl } from '../../linux/types.ts';
import { ensureAddress, ensureLink } from '../ensure.ts';
import { SEALED_PREFIX, sealedAddress } from './addressing.ts';
import { createSearch } from './encryption-search.ts';
import type { KeyPair } from './key-pair.ts';

export const SEALED_LINK = 'weft-wg';
/** Shorter than what address translation on the way forgets a flow after (wireguard.com/quickstart). It makes a new peer shake hands at once, besides. */
const KEEPALIVE_SECONDS = 25;
/** Sessions are renewed every 120 s, and given up after 180 s (wireguard.pdf §6.1). */
const SILENT_MS = 200_000;
/** What a handshake may take. */
const ACQUAINTED_MS = 10_000;

export interface EncryptionOptions {
  host: Rtnl;
  fabric: Rtnl;
  port: number;
  /** This node's keys, as they are to be now: asked for at each repair. Throws where there are none. */
  keys(): KeyPair;
  /** Tells the other nodes; undefined: there is no speaking to this one any more. */
  announce(place: WireguardPlace | undefined): void;
  clock: Clock;
}

interface Problem { detail: string; hint: string }

export interface Encryption {
  /** Why this node cannot encrypt, in words, as was found when it was looked at last; undefined: it can. */
  problem(): Problem | undefined;
  /** Looks once more whether the kernel can, if it could not: for whoever may have changed that. */
  lookAgain(): void;
  /** Makes the link what it has to be. What goes wrong is told by `problem`: the rest of the fabric does without. */
  ensure(self: NodeInfo, peers: readonly NodeInfo[], mtu: number, found: Repair[]): void;
  /** Idempotent. */
  remove(): Promise<void>;
  /** Nodes that do not answer by WireGuard, by id. */
  silent(): string[];
  /** What has come from a node by WireGuard since its peer was made, in bytes: also its part of handshakes that our answer does not complete. */
  receivedFrom(node: string): number;
  close(): void;
}

export function createEncryption({ host, fabric, port, keys, announce, clock }: EncryptionOptions): Encryption {
  const wireguard = createSearch(() => openWireguard(fabric.netns), clock);
  let failure: Problem | undefined;
  let announced: string | undefined;
  /** Node → what it said of itself when its peer was last made, and when that was. */
  let places = new Map<string, { key: string; place: string; since: number }>();

  function tell(place: WireguardPlace | undefined): void {
    const text = JSON.stringify(place);
    if (text === announced) return;
    announce(place);
    announced = text;
  }

  /** One that an earlier start left goes on: the others are not to take its peer away before the first repair here. */
  function tellWhatIsThere(): void {
    const there = fabric.link(SEALED_LINK) && wireguard.look()?.get(SEALED_LINK);
    if (there?.publicKey !== undefined) tell({ publicKey: there.publicKey, port: there.listenPort });
  }
  tellWhatIsThere();

  function ensurePeers(link: Wireguard, present: readonly WireguardPeerState[], peers: readonly NodeInfo[], found: Repair[]): void {
    const byKey = new Map(present.map((peer) => [peer.publicKey, peer]));
    const able = peers.filter((peer): peer is NodeInfo & { wireguard: WireguardPlace } => peer.wireguard !== undefined);
    const wanted = new Set(able.map((peer) => peer.wireguard.publicKey));
    const removedPeers = present.flatMap(({ publicKey }) => (wanted.has(publicKey) ? [] : [publicKey]));
    const made: WireguardPeer[] = [];
    const next: typeof places = new Map();
    for (const { id, number, vtep, wireguard: { publicKey, port: peerPort } } of able) {
      const allowedIps = [`${sealedAddress(number)}/32`];
      const place = `${vtep}:${peerPort}`;
      const before = places.get(id);
      const current = byKey.get(publicKey);
      const isRight = current?.allowedIps.join() === allowedIps.join() && current.keepaliveSeconds === KEEPALIVE_SECONDS;
      next.set(id, before?.key === publicKey && before.place === place ? before : { key: publicKey, place, since: clock.now() });
      const hasMoved = before !== undefined && before.place !== place;
      if (isRight && !hasMoved) continue;
      // Behind address translation a node is where it was heard last, also under its next key.
      const heard = hasMoved ? undefined : current?.endpoint ?? present.find((peer) => peer.allowedIps.includes(allowedIps[0]!))?.endpoint;
      made.push({ publicKey, allowedIps, endpoint: heard ?? { address: vtep, port: peerPort }, keepaliveSeconds: KEEPALIVE_SECONDS });
    }
    if (removedPeers.length + made.length > 0) {
      link.set(SEALED_LINK, { removedPeers, peers: made });
      found.push({ what: `peers of WireGuard link ${SEALED_LINK} were missing, wrong or stale (${removedPeers.length + made.length})` });
    }
    places = next;
  }

  /** Returns the peers that it has. */
  function ensureLinkState(link: Wireguard, self: NodeInfo, mtu: number, found: Repair[]): readonly WireguardPeerState[] {
    const { publicKey, privateKey } = keys();
    const made = fabric.link(SEALED_LINK) ? undefined : host.addLink({ kind: 'wireguard', name: SEALED_LINK, mtu, netns: fabric.netns });
    if (made !== undefined) found.push({ what: `link ${SEALED_LINK} was missing` });
    const present = link.get(SEALED_LINK);
    if (present.publicKey !== publicKey || present.listenPort !== port) link.set(SEALED_LINK, { ...(present.publicKey !== publicKey && { privateKey }), ...(present.listenPort !== port && { listenPort: port }) });
    // Only now: it takes its port when it comes up.
    if (made !== undefined) fabric.setLink(made, { up: true });
    const index = ensureLink(fabric, SEALED_LINK, { mtu, up: true }, () => {}, found);
    const address = `${sealedAddress(self.number)}/${SEALED_PREFIX.split('/')[1]}`;
    ensureAddress(fabric, index, address, found);
    for (const stale of fabric.addresses(index)) if (stale.address !== address) fabric.deleteAddress(index, stale.address);
    // In the same turn as the key changes: until they know it, the others do not answer.
    tell({ publicKey, port });
    return present.peers;
  }

  /** By public key; undefined where there is no link. */
  function presentPeers(): Map<string, WireguardPeerState> | undefined {
    const link = wireguard.found();
    return link && fabric.link(SEALED_LINK) && new Map(link.get(SEALED_LINK).peers.map((peer) => [peer.publicKey, peer]));
  }

  function fail(error: unknown, found: Repair[]): void {
    failure = problemOf(error);
    found.push({ what: 'encryption could not be set up', error: failure.detail });
  }

  /** By the kernel; or by the disk, which takes no keys. */
  function problemOf(error: unknown): Problem {
    if (!(error instanceof KernelError)) return { detail: `WireGuard could not be set up: ${errorText(error)}`, hint: 'see that the disk of weftd takes files; it is tried again every half minute' };
    const { code, detail } = error;
    return { detail: `WireGuard could not be set up: ${code}${detail === undefined ? '' : ` (${detail})`}`, hint: `see that nothing else has port ${port}/udp (\`ss -lnu\`); it is tried again every half minute` };
  }

  return {
    problem: () => {
      if (!wireguard.lookOnce()) return { detail: 'its kernel has no WireGuard', hint: 'load it (`modprobe wireguard`), which is noticed within half a minute, or start a kernel that was built with CONFIG_WIREGUARD' };
      return failure;
    },
    lookAgain: () => void wireguard.look(),
    ensure: (self, peers, mtu, found) => {
      const link = wireguard.lookNowAndThen();
      if (!link) return tell(undefined);
      let present: readonly WireguardPeerState[];
      try {
        present = ensureLinkState(link, self, mtu, found);
      } catch (error) {
        fail(error, found);
        tell(undefined);
        return;
      }
      try {
        ensurePeers(link, present, peers, found);
        failure = undefined;
      } catch (error) {
        // Those that it has reach it.
        fail(error, found);
      }
    },
    remove: async () => {
      tell(undefined);
      failure = undefined;
      places.clear();
      await fabric.deleteLink(SEALED_LINK);
    },
    silent: () => {
      const byKey = presentPeers();
      if (!byKey) return [];
      return [...places].flatMap(([id, { key, since }]) => {
        const handshake = byKey.get(key)?.lastHandshake;
        return clock.now() - since > ACQUAINTED_MS && (handshake === undefined || clock.wallNow() - handshake > SILENT_MS) ? [id] : [];
      });
    },
    receivedFrom: (node) => presentPeers()?.get(places.get(node)?.key ?? '')?.receivedBytes ?? 0,
    close: () => wireguard.found()?.close(),
  };
}
