/** What is remembered of name servers from one question to the next: how soon each answers, which are silent, and what they cannot do. */
import type { Clock } from '../base/clock.ts';

/** What a server that nobody has heard of may take, the most and the least that any may before the next one is asked as well. */
const FIRST_PATIENCE_MS = 500;
const LONGEST_PATIENCE_MS = 1_000;
const SHORTEST_PATIENCE_MS = 50;
/** Of the time that it takes as a rule: a retry that was not needed is cheaper than a client that waits. */
const PATIENCE_FACTOR = 4;
/** So many questions in a row without an answer, and others are asked before it. */
const SILENCES = 2;
/** How often a silent one is asked along with the others, to see whether it is back. */
const PROBE_MS = 10_000;
/** Weight of the newest time (RFC 6298 §2). */
const WEIGHT = 1 / 8;
const MAX_SERVERS = 64;

interface Server { rttMs: number | undefined; silences: number; probeAt: number; foldsCase: boolean }

export interface ServerHealth {
  /** The user's order, with silent ones at the end. */
  order(servers: readonly string[]): string[];
  /** Silent ones that it is time to ask again; counts as asking. */
  due(servers: readonly string[]): string[];
  /** Milliseconds until another one is asked as well. */
  patience(server: string): number;
  answered(server: string, afterMs: number): void;
  silent(server: string): void;
  /** Whether its answers have the question in letters of its own. */
  foldsCase(server: string): boolean;
  setFoldsCase(server: string): void;
}

export function createServerHealth(clock: Clock): ServerHealth {
  const servers = new Map<string, Server>();

  function of(address: string): Server {
    let server = servers.get(address);
    if (!server) {
      // resolv.conf may change for ever; who matters is remembered again soon.
      if (servers.size >= MAX_SERVERS) servers.clear();
      servers.set(address, server = { rttMs: undefined, silences: 0, probeAt: 0, foldsCase: false });
    }
    return server;
  }
  const isSilent = (address: string): boolean => of(address).silences >= SILENCES;

  return {
    order: (addresses) => [...addresses.filter((each) => !isSilent(each)), ...addresses.filter(isSilent)],
    due: (addresses) => addresses.filter((each) => {
      const server = of(each);
      if (!isSilent(each) || clock.now() < server.probeAt) return false;
      server.probeAt = clock.now() + PROBE_MS;
      return true;
    }),
    patience: (address) => {
      const { rttMs } = of(address);
      return rttMs === undefined ? FIRST_PATIENCE_MS : Math.min(LONGEST_PATIENCE_MS, Math.max(SHORTEST_PATIENCE_MS, rttMs * PATIENCE_FACTOR));
    },
    answered: (address, afterMs) => {
      const server = of(address);
      server.rttMs = server.rttMs === undefined ? afterMs : server.rttMs + (afterMs - server.rttMs) * WEIGHT;
      server.silences = 0;
    },
    silent: (address) => {
      const server = of(address);
      if (++server.silences === SILENCES) server.probeAt = clock.now() + PROBE_MS;
    },
    foldsCase: (address) => of(address).foldsCase,
    setFoldsCase: (address) => {
      of(address).foldsCase = true;
    },
  };
}
