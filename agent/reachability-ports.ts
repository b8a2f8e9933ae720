/** The ports that nodes need of each other, what it means when one is closed, and trying one by TCP. */
import { connect } from 'node:net';
import type { Clock } from '../base/clock.ts';

/** Where a node asks another one to try its ports, at the gossip port. */
export const REACHABILITY_PATH = '/v1/reachability';

export type Purpose = 'gossip' | 'store' | 'store-peers' | 'tunnel' | 'encryption';
export interface Port { protocol: 'tcp' | 'udp'; port: number; purpose: Purpose }
/** Whether packets to the port get from one node to the other, by their names. */
export interface Way extends Port { from: string; to: string; open: boolean }

const WORDS: Record<Purpose, string> = { gossip: 'gossip', store: 'the store', 'store-peers': 'copies of the store among themselves', tunnel: 'tunnels', encryption: 'encrypted networks' };

export const describePort = ({ protocol, port, purpose }: Port): string => `${protocol.toUpperCase()} ${port} (${WORDS[purpose]})`;

/** What does not work. `from`: who is kept out, in words. */
export function consequence({ protocol, purpose }: Port, from: string, to: string): string {
  switch (purpose) {
    case 'gossip': return protocol === 'tcp' ? `no host can join by ${to}, and what ${from} missed comes late` : `${to} may be taken for dead while it lives`;
    case 'store': return `${from} cannot use the copy of the store on ${to}`;
    case 'store-peers': return `${to} cannot hold a copy of the store`;
    case 'tunnel': return `containers on ${from} do not reach those on ${to}`;
    // Nothing is sealed before both have spoken.
    case 'encryption': return `containers on ${from} and ${to} do not reach each other on encrypted networks`;
  }
}

export type Attempt = 'open' | 'refused' | 'closed';

/** One TCP connection. `refused`: the host answered that nobody listens, or its firewall said so. */
export function tryTcp(host: string, port: number, { clock, timeoutMs }: { clock: Clock; timeoutMs: number }): Promise<Attempt> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (attempt: Attempt): void => {
      clock.clearTimeout(giveUp);
      socket.destroy();
      resolve(attempt);
    };
    const giveUp = clock.setTimeout(() => end('closed'), timeoutMs);
    socket.on('connect', () => end('open')).on('error', (error: NodeJS.ErrnoException) => end(error.code === 'ECONNREFUSED' ? 'refused' : 'closed'));
  });
}
