import type { Address } from './messages.ts';

/** One message each way, then the end. */
export interface Stream {
  write(data: Buffer): void;
  onData(handler: (data: Buffer) => void): void;
  /** With an error or, when the other side is done, without. Called once. */
  onEnd(handler: (error?: Error) => void): void;
  close(): void;
}

/** What carries packets and streams; a real network, or a simulated one. */
export interface Transport {
  /** Where others reach this node. */
  readonly address: Address;
  send(packet: Buffer, to: Address): void;
  /** Rejects when nobody answers in time, and at once when the other side's host refuses it (`isRefusal`). */
  dial(to: Address, timeoutMs: number): Promise<Stream>;
  onPacket(handler: (packet: Buffer, from: Address) => void): void;
  onStream(handler: (stream: Stream, from: Address) => void): void;
  close(): Promise<void>;
}

/** Whether a dial failed because nobody listens there: the host is up, the program is not. */
export const isRefusal = (error: unknown): boolean => error instanceof Error && (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
