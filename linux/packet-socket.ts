/** Ethernet frames of one EtherType on one link, whole, past everything that the kernel does with addresses (packet(7)). */
import { close } from 'node:fs';
import { macToBytes } from '../base/ip.ts';
import { check, lastErrno, sys } from './ffi.ts';
import type { Netns } from './types.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_MR_MULTICAST = 0;
const ADDRESS_SIZE = 20;
const MAX_FRAME = 2048;

export interface PacketSocket {
  /** The frame with its Ethernet header. Throws KernelError ENETDOWN, ENXIO where the link is down or gone. */
  send(frame: Buffer): void;
  /** Takes in what is sent to a group (an Ethernet address), which the card may leave out otherwise, for as long as the socket is open. */
  join(group: string): void;
  /** What has come in since, oldest first; frames that went out are not among them. */
  receive(): Buffer[];
  /** Ends some milliseconds later, off the main loop: the kernel waits until no CPU can be handing it a frame (packet_release, synchronize_net). */
  close(): void;
}

/** `device` is the link's index in the namespace. */
export function openPacketSocket(netns: Netns, device: number, etherType: number): PacketSocket {
  // Without a protocol until it is bound: nothing of another link gets into its queue.
  const fd = netns.run(() => check('open a packet socket', sys.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
  const address = Buffer.alloc(ADDRESS_SIZE);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(etherType, 2);
  address.writeInt32LE(device, 4);
  const buffer = Buffer.alloc(MAX_FRAME);
  try {
    check('bind a packet socket', sys.bind(fd, address, ADDRESS_SIZE));
  } catch (error) {
    sys.close(fd);
    throw error;
  }
  return {
    send: (frame) => void check('send a frame', Number(sys.sendto(fd, frame, frame.length, 0, null, 0))),
    join: (group) => {
      // struct packet_mreq
      const membership = Buffer.alloc(16);
      membership.writeInt32LE(device, 0);
      membership.writeUInt16LE(PACKET_MR_MULTICAST, 4);
      membership.writeUInt16LE(6, 6);
      membership.set(macToBytes(group), 8);
      check('join a group', sys.setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership, membership.length));
    },
    receive: () => {
      const frames: Buffer[] = [];
      for (;;) {
        const length = Number(sys.recv(fd, buffer, buffer.length, 0));
        if (length >= 0) frames.push(Buffer.from(buffer.subarray(0, length)));
        else if (lastErrno() === 'EAGAIN') return frames;
        else check('receive a frame', length);
      }
    },
    close: () => close(fd, () => {}),
  };
}
