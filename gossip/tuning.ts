/** Every knob of the protocol. Times in milliseconds. */
export interface Tuning {
  /** How often one member is probed. Shorter finds failures sooner and costs a packet each way. */
  probeInterval: number;
  /** How long an answer may take before others are asked to probe. Must exceed the round trip and the pauses of a busy node. */
  probeTimeout: number;
  /** How many others are asked. More tell a lost link from a lost member better, and cost packets when something failed. */
  indirectChecks: number;
  /** Suspicion lasts at least this × max(1, log10 n) × probeInterval. Less finds failures sooner and accuses more innocents. */
  suspicionMult: number;
  /** And at most this many times longer, while nobody confirms it. */
  suspicionMaxTimeoutMult: number;
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
  /** A failed or departed member is remembered for so long: the one to be looked for, the other so that old word does not raise it. */
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
}

/** memberlist's profile for a local network. A dead member of three is known as dead after 5 to 7 s. */
export const LAN: Tuning = {
  probeInterval: 1000, probeTimeout: 500, indirectChecks: 3, suspicionMult: 4, suspicionMaxTimeoutMult: 6, gossipInterval: 200, gossipNodes: 3,
  retransmitMult: 4, pushPullInterval: 30_000, gossipToTheDeadTime: 30_000, reapTime: 86_400_000, streamTimeout: 10_000, packetBytes: 1400,
  rejoinInterval: 5_000, rejoinMaxInterval: 30_000, aloneInterval: 1_000,
};

/** Twice as alert: a dead member of three is known as dead after 3 to 4 s; a node that stands still for 3 s is accused. */
export const FAST: Tuning = { ...LAN, probeInterval: 500, probeTimeout: 250, gossipInterval: 100, streamTimeout: 5_000 };

export const retransmitLimit = (mult: number, members: number): number => mult * Math.ceil(Math.log10(members + 1));

/** By which pushPullInterval is stretched. */
export const pushPullScale = (members: number): number => (members <= 32 ? 1 : Math.ceil(Math.log2(members) - 5) + 1);
