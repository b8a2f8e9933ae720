/**
 * Finds nodes of the same key through any one known member, in a distributed hash table that the members themselves are
 * (hyperdht, an optional dependency). Never uses public nodes: it begins with the addresses given, or is the first.
 */
import { createHmac } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type DHT from 'hyperdht';
import type { Clock, TimerHandle } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import { shuffle, type Random } from '../base/random.ts';
import type { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import { openBeacon, sealBeacon } from './beacon.ts';
import type { Discovery } from './discovery.ts';

/** The table forgets what is not said again within 20 minutes. */
const ANNOUNCE_MS = 300_000;
const RETRY_MS = 5_000;
const CONNECT_MS = 5_000;
const GOODBYE_MS = 500;
/** As many as are asked where they are; gossip knows the others. */
const MAX_ASKED = 8;
const MAX_BEACON = 512;

export interface DhtOptions {
  /** Where this node's gossip listens. */
  self: Address;
  /** UDP port of the table on self.host. Others begin with it. */
  port: number;
  /** Other members' tables; none: this node is the first. */
  bootstrap: readonly Address[];
  /** What nodes look for is derived from its keys, so that those that share one find each other. */
  keyring: Keyring;
  clock: Clock;
  random: Random;
}

export interface DhtDiscovery extends Discovery {
  /** For others to begin with. */
  readonly address: Address;
}

/** Rejects with WEFT-DISCOVERY-DHT when hyperdht is not installed or its port is taken. */
export async function openDht({ self, port, bootstrap, keyring, clock, random }: DhtOptions): Promise<DhtDiscovery> {
  const topics = (): Buffer[] => keyring.keys.map((key) => createHmac('sha256', key).update('weft cluster').digest());
  let node: DHT | undefined;
  try {
    const { default: Table } = await import('hyperdht');
    // One list may be the same on every node.
    const others = bootstrap.filter((each) => each.host !== self.host || each.port !== port);
    const options = { host: self.host, port, anyPort: false, ephemeral: false, firewalled: false };
    const table = others.length === 0 ? Table.bootstrapper(port, self.host, options) : new Table({ ...options, bootstrap: others });
    node = table;
    await table.ready();
    const keyPair = Table.keyPair();
    const server = table.createServer((stream) => {
      stream.on('error', () => {});
      stream.end(sealBeacon({ kind: 'here', from: self }, keyring, random));
    });
    await server.listen(keyPair);
    let closed = false;
    let timer: TimerHandle;
    /** Says where this node is and yields who else is there. Fails while nobody else is there to keep it. */
    const announce = async (): Promise<Buffer[]> => {
      const found = new Map<string, Buffer>();
      // What was said while nobody was there reached nobody.
      server.refresh();
      for (const topic of topics()) {
        for await (const { peers } of table.announce(topic, keyPair)) for (const { publicKey } of peers) if (!publicKey.equals(keyPair.publicKey)) found.set(publicKey.toString('hex'), publicKey);
      }
      return [...found.values()];
    };
    const announceAgain = async (): Promise<void> => {
      const done = await announce().then(() => true, () => false);
      if (!closed) timer = clock.setTimeout(() => void announceAgain(), done ? ANNOUNCE_MS : RETRY_MS);
    };
    await announceAgain();

    return {
      address: { host: self.host, port: table.address().port },
      addresses: async () => {
        const found = await announce().catch(() => []);
        const asked = await Promise.all(shuffle(found, random).slice(0, MAX_ASKED).map((publicKey) => ask(table.connect(publicKey), keyring, clock)));
        return asked.filter((address) => address !== undefined);
      },
      close: async () => {
        if (closed) return;
        closed = true;
        clock.clearTimeout(timer);
        const patience = new Promise<void>((resolve) => void clock.setTimeout(resolve, GOODBYE_MS));
        await Promise.race([Promise.all(topics().map((topic) => table.unannounce(topic, keyPair).catch(() => {}))), patience]);
        await table.destroy({ force: true });
      },
    };
  } catch (error) {
    await node?.destroy({ force: true }).catch(() => {});
    throw weftError('WEFT-DISCOVERY-DHT', { detail: errorText(error) });
  }
}

/** Where the other side says it is; undefined when it is gone, or has another key. */
function ask(stream: Duplex, keyring: Keyring, clock: Clock): Promise<Address | undefined> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let size = 0;
    const end = (): void => {
      clock.clearTimeout(timer);
      stream.destroy();
      resolve(openBeacon(Buffer.concat(pieces), keyring)?.from);
    };
    const timer = clock.setTimeout(end, CONNECT_MS);
    stream.on('data', (piece: Buffer) => {
      pieces.push(piece);
      if ((size += piece.length) > MAX_BEACON) end();
    });
    stream.on('error', end).on('end', end);
  });
}
