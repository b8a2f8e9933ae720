import type { Address } from './messages.ts';
import type { Versions } from './versions.ts';

/** A node that is or wants to be a member, as it describes itself. */
export interface Candidate {
  readonly name: string;
  readonly address: Address;
  readonly meta: Buffer;
  readonly versions: Versions;
}

/** What gossip carries for others, and what it asks them. What a handler throws is logged, save where a throw is a veto. */
export interface Delegate {
  /** A user message, of a packet or of a stream; the buffer is the handler's. Who sent it is for the message to say. */
  onMessage?(message: Buffer): void;
  /** What goes along with a state exchange (`join`: of a node that joins), and what came with the other side's. */
  localState?(join: boolean): Uint8Array;
  mergeState?(state: Buffer, join: boolean): void;
  /** Two clusters or nodes are about to become one, on both sides; throwing refuses all of it. */
  mayMerge?(candidates: readonly Candidate[]): void;
  /** One node is about to be a member or to change; throwing refuses it. Called often, so cheap. */
  mayAdd?(candidate: Candidate): void;
  /** Another node has the name of a live member, or this node's. The first keeps it until it fails. */
  onConflict?(known: Candidate, other: Candidate): void;
  /** Goes along with each answer to a probe; up to a few hundred bytes. Instead of the coordinate, if there is one. */
  ackPayload?(): Uint8Array;
  /** A probe was answered by the member itself. */
  onPinged?(member: Candidate, roundTripMs: number, payload: Buffer): void;
}
