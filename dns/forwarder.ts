/** What the two ways of asking another resolver have in common. */
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';

export const FORWARD_TIMEOUT_MS = 4000;
export type Transport = 'udp' | 'tcp';

/** Nobody listens there; nobody answered in time; too many questions at once. */
export type Failure = 'absent' | 'timeout' | 'busy';

export interface Forwarder {
  /** Asks for a client. `end` is where the question ends. The reply carries the client's id; never rejects. */
  ask(message: Buffer, end: number, transport: Transport): Promise<Buffer | Failure>;
  close(): void;
}

export interface ForwarderOptions { clock: Clock; random: Random }

/** A copy of the query under an id that nobody can guess. */
export function disguise(message: Buffer, random: Random): Buffer {
  const copy = Buffer.from(message);
  copy.set(random.bytes(2), 0);
  return copy;
}

/** Gives a reply the id that the client knows. */
export function addressed(reply: Buffer, message: Buffer): Buffer {
  message.copy(reply, 0, 0, 2);
  return reply;
}
