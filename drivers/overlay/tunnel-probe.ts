/**
 * Whether packets of the tunnel port get from one node to another, tried with the real thing: a frame through both nodes'
 * weft-in, sealed into VXLAN by one kernel and opened by the other's. Each side sends and listens at the same time; what
 * it heard it has to tell the other in another way. The frames carry no IP, so that no rule and no route but the underlay's
 * decides about them.
 */
import type { Clock } from '../../base/clock.ts';
import { openPacketSocket } from '../../linux/packet-socket.ts';
import type { Netns } from '../../linux/types.ts';
import { nodeMac } from './addressing.ts';

/** For local experiments (IEEE 802, "Local Experimental EtherType 1"). */
const ETHER_TYPE = 0x88b5;
const HEADER = 14;
/** The shortest frame that Ethernet has, without its checksum. */
const FRAME_BYTES = 60;
const EVERY_MS = 50;

export interface TunnelProbeOptions {
  /** The fabric, and the index of weft-in there. */
  fabric: Netns;
  tunnel: number;
  /** Numbers of the two nodes. */
  from: number;
  to: number;
  /** The same on both sides, 16 hex digits: tells this probe's frames from an earlier one's. */
  nonce: string;
  clock: Clock;
}

export interface TunnelProbe {
  /** A frame of the other side has come. */
  heard(): boolean;
  /** Frames sent so far. */
  sent(): number;
  close(): void;
}

/** By way of WireGuard, `tunnel` being weft-in-wg. `received`: what has come from the other node by it, as handshakes do that our answers do not complete. */
export function openSealedProbe(options: TunnelProbeOptions, received: () => number): TunnelProbe {
  const before = received();
  const probe = openTunnelProbe(options);
  return { ...probe, heard: () => probe.heard() || received() > before };
}

const bytesOf = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');

/** Sends until it is closed. Throws KernelError ENODEV where weft-in is not there. */
export function openTunnelProbe({ fabric, tunnel, from, to, nonce, clock }: TunnelProbeOptions): TunnelProbe {
  const socket = openPacketSocket(fabric, tunnel, ETHER_TYPE);
  const [own, other, word] = [bytesOf(nodeMac(from)), bytesOf(nodeMac(to)), Buffer.from(nonce, 'hex')];
  const frame = Buffer.alloc(FRAME_BYTES);
  Buffer.concat([other, own, Buffer.of(ETHER_TYPE >> 8, ETHER_TYPE & 0xff), word]).copy(frame);
  const isAnswer = (received: Buffer): boolean =>
    received.subarray(other.length, other.length + own.length).equals(other) && received.subarray(HEADER, HEADER + word.length).equals(word);
  let isHeard = false;
  let sent = 0;
  const listen = (): boolean => (isHeard ||= socket.receive().some(isAnswer));
  const step = (): void => {
    try {
      socket.send(frame);
      sent++;
      listen();
    } catch { /* weft-in went down or away: nothing is heard, which is the truth */ }
    timer = clock.setTimeout(step, EVERY_MS);
  };
  let timer = clock.setTimeout(step, 0);
  return {
    heard: listen,
    sent: () => sent,
    close: () => {
      clock.clearTimeout(timer);
      socket.close();
    },
  };
}
