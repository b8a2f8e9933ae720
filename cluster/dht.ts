/**
 * Finds nodes of the same key through any one known member, in a distributed hash table that the members themselves are
 * (hyperdht, an optional dependency). Never uses public nodes: it begins with the addresses given, or is the first.
 * Nodes behind NAT are found through holes, by which they say their address and no more.
 */
import { createHmac } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { BlockList } from 'node:net';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import type { Duplex } from 'node:stream';
import type DHT from 'hyperdht';
import type { Server } from 'hyperdht';
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
  /** UDP port of the table. Others begin with it. */
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
  let node: Node | undefined;
  try {
    const { default: Table } = await import('hyperdht');
    const { known, host, others } = await place(self.host, port, bootstrap);
    const keyPair = Table.keyPair();
    const start = async (firewalled?: boolean): Promise<DHT> => {
      const table = others.length === 0 ? Table.bootstrapper(port, known, { host }) : new Table({ host, port, anyPort: false, ephemeral: false, firewalled, bootstrap: others });
      try {
        await table.ready();
        return table;
      } catch (error) {
        await table.destroy({ force: true });
        throw error;
      }
    };
    const open = async (): Promise<Node> => {
      // It finds out by those it asks whether answers to a port that it did not ask from arrive. If not, it stores nothing for others,
      // and they come to it through holes.
      let table = await start();
      if (table.firewalled && table.host !== null && isLocal(table.host)) {
        // Others see it at its own address, so there is no NAT. Holes need three others that are open, which a small cluster may not have.
        await table.destroy({ force: true });
        table = await start(false);
      }
      node = { table, server: table.createServer((stream) => {
        stream.on('error', () => {});
        stream.end(sealBeacon({ kind: 'here', from: self }, keyring, random));
      }), decided: table.host !== null };
      await node.server.listen(keyPair);
      return node;
    };
    let current = await open();
    let closed = false;
    let timer: TimerHandle;
    /** Says where this node is and yields who else is there. Fails while nobody else is there to keep it. */
    const announce = async (): Promise<Buffer[]> => {
      const { table, server } = current;
      const found = new Map<string, Buffer>();
      // What was said while nobody was there reached nobody.
      server.refresh();
      for (const topic of topics()) {
        for await (const { peers } of table.announce(topic, keyPair)) for (const { publicKey } of peers) if (!publicKey.equals(keyPair.publicKey)) found.set(publicKey.toString('hex'), publicKey);
      }
      return [...found.values()];
    };
    /** hyperdht looks for NAT only when it begins. While nobody answered, it is let begin again. */
    const decide = async (): Promise<void> => {
      if (current.decided) return;
      await current.table.destroy({ force: true });
      if (closed) return;
      current = await open();
      if (closed) await current.table.destroy({ force: true });
    };
    const announceAgain = async (): Promise<void> => {
      const done = await announce().then(() => true, () => false);
      if (!closed) timer = clock.setTimeout(() => void decide().catch(() => {}).then(announceAgain), done && current.decided ? ANNOUNCE_MS : RETRY_MS);
    };
    await announceAgain();

    return {
      address: { host: known, port },
      addresses: async () => {
        const found = await announce().catch(() => []);
        const { table } = current;
        const asked = await Promise.all(shuffle(found, random).slice(0, MAX_ASKED).map((publicKey) => ask(table.connect(publicKey), keyring, clock)));
        return asked.filter((address) => address !== undefined);
      },
      close: async () => {
        if (closed) return;
        closed = true;
        clock.clearTimeout(timer);
        const { table } = current;
        const patience = new Promise<void>((resolve) => void clock.setTimeout(resolve, GOODBYE_MS));
        await Promise.race([Promise.allSettled(topics().map(async (topic) => table.unannounce(topic, keyPair))), patience]);
        await table.destroy({ force: true });
      },
    };
  } catch (error) {
    await node?.table.destroy({ force: true }).catch(() => {});
    throw weftError('WEFT-DISCOVERY-DHT', { detail: errorText(error) });
  }
}

interface Node {
  table: DHT;
  server: Server;
  /** Others have answered, or there are none: it is known whether there is NAT between them and this node. */
  decided: boolean;
}

interface Place {
  /** By which address of this host others know its table. */
  known: string;
  /** What its sockets are bound to. */
  host: string;
  others: Address[];
}

/**
 * The address of gossip, where others are reached from it. Where it is one of a VPN and others are reached from another, or
 * come to another, the table is on all of them. One list of nodes may be the same on every node.
 */
async function place(advertised: string, port: number, bootstrap: readonly Address[]): Promise<Place> {
  const sources = await Promise.all(bootstrap.map(({ host }) => sourceTowards(host)));
  const isSelf = ({ host, port: its }: Address, i: number): boolean => its === port && (host === advertised || host === sources[i]);
  return {
    known: bootstrap.find(isSelf)?.host ?? advertised,
    host: sources.every((source) => source === advertised || inOneSubnet(source, advertised)) ? advertised : '0.0.0.0',
    others: bootstrap.filter((each, i) => !isSelf(each, i)),
  };
}

const addressesHere = (): NetworkInterfaceInfo[] => Object.values(networkInterfaces()).flatMap((entries) => entries ?? []).filter(({ family }) => family === 'IPv4');

/** The kernel takes all of 127.0.0.0/8 for its own, and lists one. */
const isLocal = (host: string): boolean => host.startsWith('127.') || addressesHere().some(({ address }) => address === host);

/** The address that the kernel would send from; undefined when it has no route. Sends nothing. */
function sourceTowards(host: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4').on('error', () => socket.close(() => resolve(undefined)));
    socket.connect(1, host, () => {
      const { address } = socket.address();
      socket.close(() => resolve(address));
    });
  });
}

/** An IPv4 subnet that a card of this host is in. */
function inOneSubnet(a: string | undefined, b: string): boolean {
  return addressesHere().some(({ address, cidr }) => {
    if (cidr === null || a === undefined) return false;
    const subnet = new BlockList();
    subnet.addSubnet(address, Number(cidr.split('/')[1]));
    return subnet.check(a) && subnet.check(b);
  });
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
