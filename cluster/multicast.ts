/**
 * Finds nodes of the same key on the local network without knowing any: a question to a multicast group, answered by
 * each node to the asker alone. Both are sealed, so strangers learn nothing and are not answered.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { createFloodGuard } from '../gossip/flood.ts';
import type { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import { openBeacon, sealBeacon } from './beacon.ts';
import type { Discovery } from './discovery.ts';

/** Administratively scoped (RFC 2365 §6.2), so no router forwards it out of the site. Another port than gossip's, which that has on all addresses. */
export const MULTICAST_GROUP: Address = { host: '239.255.87.84', port: 7950 };
const ANSWER_MS = 300;
/** Who asked lately is there as well. */
const HEARD_MS = 60_000;
const ANSWERS_PER_SECOND = 10;

export interface MulticastOptions {
  /** Where this node's gossip listens; its host is the address of the interface that is used. */
  self: Address;
  keyring: Keyring;
  clock: Clock;
  random: Random;
  group?: Address;
}

/** Rejects with WEFT-DISCOVERY-MULTICAST where there is no such address, or it cannot be listened on. */
export async function openMulticast({ self, keyring, clock, random, group = MULTICAST_GROUP }: MulticastOptions): Promise<Discovery> {
  const heard = new Map<string, { address: Address; at: number }>();
  const guard = createFloodGuard(ANSWERS_PER_SECOND, () => clock.now());
  // The one hears questions to the group; the other asks, and hears the answers.
  const ears = createSocket({ type: 'udp4', reuseAddr: true });
  const mouth = createSocket({ type: 'udp4' });
  try {
    const bound = [once(ears, 'listening'), once(mouth, 'listening')];
    ears.bind(group.port, group.host);
    mouth.bind(0, self.host);
    await Promise.all(bound);
    ears.addMembership(group.host, self.host);
    mouth.setMulticastInterface(self.host);
  } catch (error) {
    for (const socket of [ears, mouth]) socket.removeAllListeners('error').on('error', () => {}).close();
    throw weftError('WEFT-DISCOVERY-MULTICAST', { address: `${group.host}:${group.port}`, detail: errorText(error) });
  }

  function hear(data: Buffer): boolean {
    const beacon = openBeacon(data, keyring);
    if (!beacon || (beacon.from.host === self.host && beacon.from.port === self.port)) return false;
    heard.set(`${beacon.from.host}:${beacon.from.port}`, { address: beacon.from, at: clock.now() });
    return beacon.kind === 'who';
  }

  ears.on('message', (data, asker) => {
    // Counted before it is opened: opening costs.
    if (guard.admits(asker.address) && hear(data)) mouth.send(sealBeacon({ kind: 'here', from: self }, keyring, random), asker.port, asker.address, () => {});
  });
  mouth.on('message', (data) => void hear(data));
  for (const socket of [ears, mouth]) socket.on('error', () => {});

  return {
    addresses: async () => {
      mouth.send(sealBeacon({ kind: 'who', from: self }, keyring, random), group.port, group.host, () => {});
      await new Promise<void>((resolve) => void clock.setTimeout(resolve, ANSWER_MS));
      for (const [key, { at }] of heard) if (clock.now() - at > HEARD_MS) heard.delete(key);
      return [...heard.values()].map(({ address }) => address);
    },
    close: async () => {
      await Promise.all([ears, mouth].map((socket) => new Promise<void>((resolve) => void socket.close(() => resolve()))));
    },
  };
}
