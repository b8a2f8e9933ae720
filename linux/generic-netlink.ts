/**
 * Generic netlink: families that the kernel numbers when it loads them, found by name (linux/genetlink.h, genl-ctrl;
 * Documentation/userspace-api/netlink/intro.rst). Asking for one that is a module loads it.
 */
import { parseAttributes, text } from './attributes.ts';
import { openNetlink, type BatchError, type NetlinkSocket } from './netlink-socket.ts';
import { KernelError, type Netns } from './types.ts';

const NETLINK_GENERIC = 16;
/** struct genlmsghdr: command (1), version (1), reserved (2). */
const HEADER = 4;
/** The family of families, whose number is fixed. */
const GENL_ID_CTRL = 16;
const CTRL = { VERSION: 1, CMD_GETFAMILY: 3, ATTR_FAMILY_ID: 1, ATTR_FAMILY_NAME: 2 } as const;

export interface Family {
  /** What a command answers with: the attributes of each message. */
  dump(what: string, command: number, attributes: Uint8Array): Buffer[];
  /** The same command for each; all are tried. */
  batch(what: string, command: number, attributes: readonly Uint8Array[]): BatchError[];
  close(): void;
}

export function genericMessage(command: number, version: number, attributes: Uint8Array): Buffer {
  return Buffer.concat([Uint8Array.of(command, version, 0, 0), attributes]);
}

/** undefined where the kernel has no such family. Objects of a family are those of the namespace. */
export function openFamily(netns: Netns, name: string, version: number): Family | undefined {
  const socket = openNetlink(netns, NETLINK_GENERIC);
  const type = familyNumber(socket, name);
  if (type === undefined) {
    socket.close();
    return undefined;
  }
  const body = (command: number, attributes: Uint8Array): Buffer => genericMessage(command, version, attributes);
  return {
    dump: (what, command, attributes) => socket.dump(what, type, body(command, attributes)).map((reply) => reply.body.subarray(HEADER)),
    batch: (what, command, attributes) => socket.batch(what, attributes.map((each) => ({ type, flags: 0, body: body(command, each) }))),
    close: () => socket.close(),
  };
}

function familyNumber(socket: NetlinkSocket, name: string): number | undefined {
  try {
    const [reply] = socket.request(`find the netlink family ${name}`, { type: GENL_ID_CTRL, flags: 0, body: genericMessage(CTRL.CMD_GETFAMILY, CTRL.VERSION, text(CTRL.ATTR_FAMILY_NAME, name)) });
    const id = reply && parseAttributes(reply.body.subarray(HEADER)).get(CTRL.ATTR_FAMILY_ID);
    return id?.readUInt16LE(0);
  } catch (error) {
    if (error instanceof KernelError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
