/** Every knob of the protocol. Times in milliseconds. */
export interface Tuning {
  /** How often one member is probed. Shorter finds failures sooner and costs a packet each. */
  probeInterval: number;
  /** How long an answer may take before others are asked to probe. Must exceed the round-trip time. */
  probeTimeout: number;
  /** How many others are asked. */
  indirectChecks: number;
  /** Suspicion lasts at least this × max(1, log10 n) × probeInterval. Less finds failures sooner and accuses more innocents. */
  suspicionMult: number;
  /** And at most this many times longer, while nobody confirms it. */
  suspicionMaxTimeoutMult: number;
  /** How often news is passed on. */
  gossipInterval: number;
  /** To how many members each time. */
  gossipNodes: number;
  /** News is passed on this × ceil(log10(n + 1)) times. */
  retransmitMult: number;
  /** How often the whole state is exchanged with one member; stretched in clusters above 32. */
  pushPullInterval: number;
  /** Failed members are told news for so long, so that they learn that they are thought dead. */
  gossipToTheDeadTime: number;
  /** For streams, dialling included. */
  streamTimeout: number;
  /** Bytes of a packet before IP and UDP headers. */
  packetBytes: number;
  /** How often an unreachable seed or failed member is tried again, so that islands merge. */
  rejoinInterval: number;
}

/** memberlist's profile for a local network. */
export const LAN: Tuning = {
  probeInterval: 1000, probeTimeout: 500, indirectChecks: 3, suspicionMult: 4, suspicionMaxTimeoutMult: 6, gossipInterval: 200, gossipNodes: 3,
  retransmitMult: 4, pushPullInterval: 30_000, gossipToTheDeadTime: 30_000, streamTimeout: 10_000, packetBytes: 1400, rejoinInterval: 5_000,
};

export const retransmitLimit = (mult: number, members: number): number => mult * Math.ceil(Math.log10(members + 1));

export const pushPullScale = (members: number): number => (members <= 32 ? 1 : Math.ceil(Math.log2(members) - 5) + 1);

/** Lifeguard's suspicion: starts at the maximum and shortens with each independent confirmation, down to the minimum. */
export function suspicionTimeout(tuning: Tuning, members: number, confirmations: number): number {
  const min = tuning.suspicionMult * Math.max(1, Math.floor(Math.log10(Math.max(1, members)) * 1000) / 1000) * tuning.probeInterval;
  const max = tuning.suspicionMaxTimeoutMult * min;
  // Too few members to confirm anything: there is nothing to wait for.
  const expected = members - 2 < tuning.suspicionMult - 2 ? 0 : tuning.suspicionMult - 2;
  if (expected < 1) return min;
  return Math.max(min, Math.floor(max - (Math.log(confirmations + 1) / Math.log(expected + 1)) * (max - min)));
}
