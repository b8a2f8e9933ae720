/** Every knob of the protocol. Times in milliseconds. */
export interface Tuning {
  /** How often one member is probed. Shorter finds failures sooner and costs a packet each way. */
  probeInterval: number;
  /** How long an answer may take at most before others are asked to probe; sooner where answers are fast (`patience.ts`). Must exceed the round trip and the pauses of a busy node. */
  probeTimeout: number;
  /** How many others are asked. More tell a lost link from a lost member better, and cost packets when something failed. */
  indirectChecks: number;
  /** Whether a member that does not answer packets is also probed by stream. Without it, a firewall that drops UDP makes members fail. */
  streamPings: boolean;
  /** Suspicion lasts at least this × max(1, log10 n) × probeInterval. Less finds failures sooner and accuses more innocents. */
  suspicionMult: number;
  /** And at most this many times longer, while nobody confirms it. */
  suspicionMaxTimeoutMult: number;
  /** The health score stays below this; probes are at most this many times slower. More is more patient where nodes are overloaded. */
  awarenessMax: number;
  /** How often news is passed on. */
  gossipInterval: number;
  /** To how many members each time. */
  gossipNodes: number;
  /** News is passed on this × ceil(log10(n + 1)) times, counted per packet. Less leaves more to the state exchange. */
  retransmitMult: number;
  /** How often the whole state is exchanged with one member; stretched in clusters above 32. */
  pushPullInterval: number;
  /** A failed member is told news for so long, so that it learns that it is thought dead. */
  gossipToTheDeadTime: number;
  /** So long a failed member's name stays with its address; 0: a later incarnation may come from anywhere at once. */
  reclaimTime: number;
  /** A failed or departed member is remembered for so long: the one to be looked for, the other so that old word does not raise it. Others are told of it for half of that. */
  reapTime: number;
  /** For streams, dialling included. */
  streamTimeout: number;
  /** Bytes of a packet before IP and UDP headers. Above the smallest MTU on the way minus 48, packets come in fragments or not at all. */
  packetBytes: number;
  /** How often failed members and absent seeds are looked for, so that islands merge; doubled while it is in vain. */
  rejoinInterval: number;
  /** And at least so often. */
  rejoinMaxInterval: number;
  /** How often while no other member is known at all. */
  aloneInterval: number;
  /** Packets per second that one address may send; more are dropped unread. */
  packetsPerSource: number;
  /** Streams that one address may have open; more are closed. */
  streamsPerSource: number;
}

/** memberlist's profile for a local network. A dead member of three is known as dead after 5 to 7 s, up to a second sooner where its host refuses connections. */
export const LAN: Tuning = {
  probeInterval: 1000, probeTimeout: 500, indirectChecks: 3, streamPings: true, suspicionMult: 4, suspicionMaxTimeoutMult: 6, awarenessMax: 8, gossipInterval: 200, gossipNodes: 3,
  retransmitMult: 4, pushPullInterval: 30_000, gossipToTheDeadTime: 30_000, reclaimTime: 0, reapTime: 86_400_000, streamTimeout: 10_000, packetBytes: 1400,
  rejoinInterval: 5_000, rejoinMaxInterval: 30_000, aloneInterval: 1_000, packetsPerSource: 2_000, streamsPerSource: 32,
};

/** memberlist's profile for members far apart: a dead member is known as dead after half a minute, and slow links accuse nobody. */
const WAN: Tuning = {
  ...LAN, probeInterval: 5_000, probeTimeout: 3_000, suspicionMult: 6, gossipInterval: 500, gossipNodes: 4, pushPullInterval: 60_000, gossipToTheDeadTime: 60_000, streamTimeout: 30_000,
};

/** memberlist's profile for members on one machine. */
const LOCAL: Tuning = {
  ...LAN, probeTimeout: 200, indirectChecks: 1, suspicionMult: 3, gossipInterval: 100, retransmitMult: 2, pushPullInterval: 15_000, gossipToTheDeadTime: 15_000, streamTimeout: 1_000,
};

/**
 * At LAN's pace, with half of its patience for a suspect: a dead member of three is known as dead after 3 to 5 s, up to a second sooner where its host refuses connections. Probing
 * twice as often instead finds it a second sooner, and costs an idle node a third of all its computing.
 */
const FAST: Tuning = { ...LAN, suspicionMult: 2, gossipInterval: 100, streamTimeout: 5_000 };

export const PROFILES = { lan: LAN, wan: WAN, local: LOCAL, fast: FAST } as const;
export type ProfileName = keyof typeof PROFILES;

export const retransmitLimit = (mult: number, members: number): number => mult * Math.ceil(Math.log10(members + 1));

/** By which pushPullInterval is stretched. */
export const pushPullScale = (members: number): number => (members <= 32 ? 1 : Math.ceil(Math.log2(members) - 5) + 1);
