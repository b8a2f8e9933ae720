/** Messages on their way to each member: in packets where they fit, else one after the other on streams. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Gossip } from '../gossip/gossip.ts';

/** Messages that may wait for one member; what is more than that is left to the digests. */
const MAX_WAITING = 1_024;

export interface Outbox {
  /** One that fits into a packet goes at once; others go in order, since in another order they would be asked for again. What fails is dropped, and what waits for it. */
  send(to: string, ...messages: readonly Buffer[]): void;
  /** On streams, each made when the one before it has arrived. Only to who is not busy. */
  ship(to: string, messages: Iterable<Buffer>): void;
  /** Whether something is on its way to a member by stream. */
  isBusy(to: string): boolean;
  close(): void;
}

export function createOutbox(gossip: Gossip, log: Logger): Outbox {
  const waiting = new Map<string, Buffer[]>();
  let closed = false;

  async function deliver(to: string, messages: Iterable<Buffer>): Promise<void> {
    const later: Buffer[] = [];
    waiting.set(to, later);
    try {
      for (const message of inOrder(messages, later)) {
        if (closed) break;
        await gossip.sendReliable(to, message);
      }
    } catch (error) {
      log.debug({ to, detail: errorText(error) }, 'soft state could not be sent; the next digest repairs it');
    } finally {
      waiting.delete(to);
    }
  }

  return {
    send: (to, ...messages) => {
      const [first] = messages;
      if (messages.length === 1 && first!.length <= gossip.room) return gossip.sendBestEffort(to, first!);
      const ahead = waiting.get(to);
      if (!ahead) void deliver(to, messages);
      else if (ahead.length < MAX_WAITING) ahead.push(...messages);
    },
    ship: (to, messages) => void deliver(to, messages),
    isBusy: (to) => waiting.has(to),
    close: () => {
      closed = true;
    },
  };
}

/** Those, and what has come to wait behind them meanwhile. */
function* inOrder(first: Iterable<Buffer>, later: Buffer[]): Generator<Buffer> {
  yield* first;
  for (let next = later.shift(); next; next = later.shift()) yield next;
}
