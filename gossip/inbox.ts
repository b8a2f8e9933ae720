/** Packets as they come in: limited for each source, opened, taken apart. What is dropped is counted, and never answered. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { Refused, type DropReason, type GossipStats } from './counters.ts';
import type { Envelope } from './envelope.ts';
import { createFloodGuard } from './flood.ts';
import { messagesOf } from './framing.ts';
import type { Address } from './messages.ts';
import type { Transport } from './transport.ts';

export interface InboxOptions {
  transport: Transport;
  envelope: Envelope;
  packetsPerSource: number;
  now(): number;
  log: Logger;
  stats: GossipStats;
  onDrop(reason: DropReason): void;
  handle(message: Buffer, from: Address): void;
}

export function openInbox({ transport, envelope, packetsPerSource, now, log, stats, onDrop, handle }: InboxOptions): void {
  const flood = createFloodGuard(packetsPerSource, now);

  function sensible(from: Address, run: () => void): void {
    try {
      run();
    } catch (error) {
      onDrop(error instanceof Refused ? error.reason : 'malformed');
      log.debug({ from: from.host, detail: errorText(error) }, 'a packet made no sense');
    }
  }

  transport.onPacket((packet, from) => {
    stats.packetsReceived++;
    stats.bytesReceived += packet.length;
    if (!flood.admits(from.host)) return onDrop('flood');
    sensible(from, () => {
      for (const message of messagesOf(envelope.openPacket(packet))) sensible(from, () => handle(message, from));
    });
  });
}
