/** Messages on their way to each member: in packets where they fit, else one after the other on streams. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Gossip } from '../gossip/gossip.ts';

/** Messages that may wait for one member; what is more than that is left to the digests. */
const MAX_WAITING = 1_024;

export interface Outbox {
  /** One that fits into a packet goes at once; others go in order, since in another order they would be asked for again. What fails is dropped, and what waits for it. */
  send(to: string, ...messages: readonly Buffer[]): void;
  /** Whether something is on its way to a member by stream. */
  isBusy(to: string): boolean;
  close(): void;
}

export function createOutbox(gossip: Gossip, log: Logger): Outbox {
  const waiting = new Map<string, Buffer[]>();
  let closed = false;

  async function deliver(to: string, messages: Buffer[]): Promise<void> {
    waiting.set(to, messages);
    try {
      for (let next = messages.shift(); next && !closed; next = messages.shift()) await gossip.sendReliable(to, next);
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
      if (!ahead) void deliver(to, [...messages]);
      else if (ahead.length < MAX_WAITING) ahead.push(...messages);
    },
    isBusy: (to) => waiting.has(to),
    close: () => {
      closed = true;
    },
  };
}
