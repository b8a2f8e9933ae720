/** What went in and out, and what was dropped and why. */
export const DROP_REASONS = [
  /** Its source sends more than Tuning.packetsPerSource, or opens more than Tuning.streamsPerSource. */
  'flood',
  /** Of another cluster, by its label. */
  'label',
  /** No key opens it, or it is not sealed and has to be. */
  'seal',
  'checksum',
  /** It makes no sense. */
  'malformed',
  /** A message of a type that is not known. */
  'type',
  /** Members that the delegate refused, or that speak other versions. */
  'refused',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface GossipStats {
  packetsSent: number;
  packetsReceived: number;
  /** Of packets, before IP and UDP headers. */
  bytesSent: number;
  bytesReceived: number;
  streamsDialled: number;
  streamsAccepted: number;
  dropped: Record<DropReason, number>;
}

export const createStats = (): GossipStats => ({
  packetsSent: 0, packetsReceived: 0, bytesSent: 0, bytesReceived: 0, streamsDialled: 0, streamsAccepted: 0,
  dropped: Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as Record<DropReason, number>,
});

/** Something from outside that is not taken in, and under which reason it is counted. */
export class Refused extends RangeError {
  readonly reason: DropReason;

  constructor(reason: DropReason, message: string) {
    super(message);
    this.reason = reason;
  }
}
