/** Finding other nodes on real sockets of the loopback device: by multicast, and in a hash table of the members' own. */
import { existsSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import tap, { type Test, test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import { openBeacon, sealBeacon } from './beacon.ts';
import { openDht, type DhtDiscovery } from './dht.ts';
import { allAddresses, type Discovery } from './discovery.ts';
import { openMulticast } from './multicast.ts';

tap.setTimeout(120_000);

const KEY = Buffer.alloc(32, 7);
const OTHER_KEY = Buffer.alloc(32, 8);
const nodeAt = (i: number): Address => ({ host: `127.4.0.${i}`, port: 7_000 + i });
const hostsOf = (addresses: readonly Address[]): string[] => addresses.map(({ host, port }) => `${host}:${port}`).sort();

async function opened<T extends Discovery>(t: Test, opening: Promise<T>): Promise<T> {
  const discovery = await opening;
  t.teardown(() => discovery.close());
  return discovery;
}

void test('a beacon is read with the key, by nobody else, and is no other message', async (t) => {
  const keyring = new Keyring(KEY);
  const beacon = { kind: 'who', from: nodeAt(1) } as const;
  const sealed = sealBeacon(beacon, keyring, random);
  t.same(openBeacon(sealed, keyring), beacon);
  t.same(openBeacon(sealed, new Keyring(OTHER_KEY, KEY)), beacon, 'with any key of the ring');
  t.equal(openBeacon(sealed, new Keyring(OTHER_KEY)), undefined);
  t.equal(openBeacon(keyring.seal(Buffer.from('{"kind":"who","host":"10.0.0.1","port":1}'), Buffer.alloc(0), random), keyring), undefined, 'sealed for another purpose');
  for (const text of ['', '{', '{"kind":"who"}', '{"kind":"who","host":"nowhere","port":1}', '{"kind":"who","host":"10.0.0.1","port":0}']) {
    t.equal(openBeacon(keyring.seal(Buffer.from(text), Buffer.from('weft beacon 1'), random), keyring), undefined, text);
  }
});

void test('sources are taken together, and one that fails is left out', async (t) => {
  const addresses = await allAddresses({
    seeds: { addresses: async () => [nodeAt(1), nodeAt(2)] }, broken: { addresses: () => Promise.reject(new Error('no network')) }, more: { addresses: async () => [nodeAt(2), nodeAt(3)] },
  }, log)();
  t.same(hostsOf(addresses), hostsOf([1, 2, 3].map(nodeAt)));
});

void test('multicast: nodes of one key find each other, those of another do not', async (t) => {
  const group = { host: '239.255.87.84', port: 17_947 };
  const open = (i: number, key: Buffer): Promise<Discovery> => opened(t, openMulticast({ self: nodeAt(i), keyring: new Keyring(key), clock, random, group }));
  const [first, second, stranger] = [await open(1, KEY), await open(2, KEY), await open(3, OTHER_KEY)];
  t.same(hostsOf(await second.addresses()), hostsOf([nodeAt(1)]));
  t.same(hostsOf(await first.addresses()), hostsOf([nodeAt(2)]));
  t.same(await stranger.addresses(), []);
});

void test('hash table: through any one member all of the same key are found', { skip: existsSync(new URL('../node_modules/hyperdht', import.meta.url)) ? false : 'hyperdht is not installed' }, async (t) => {
  const open = (i: number, key: Buffer, bootstrap: readonly Address[]): Promise<DhtDiscovery> =>
    opened(t, openDht({ self: nodeAt(i), port: 17_000 + i, bootstrap, keyring: new Keyring(key), clock, random }));
  const first = await open(1, KEY, [{ host: nodeAt(1).host, port: 17_001 }]);
  const second = await open(2, KEY, [first.address]);
  /** What it says now or soon: the first announced itself when there was nobody to hear it, and does so again every few seconds. */
  const finds = async (discovery: Discovery, expected: readonly Address[]): Promise<string[]> => {
    const wanted = hostsOf(expected).join();
    let found: string[] = [];
    for (let i = 0; i < 10 && found.join() !== wanted; i++) {
      if (i > 0) await wait(1_000);
      found = hostsOf(await discovery.addresses());
    }
    return found;
  };
  // Each keeps what the other says, and asks only others.
  t.same([await first.addresses(), await second.addresses()], [[], []], 'of two, neither is found');
  const third = await open(3, KEY, [second.address]);
  t.same(await finds(third, [nodeAt(1), nodeAt(2)]), hostsOf([nodeAt(1), nodeAt(2)]), 'through one that is not the first');
  t.same(await finds(second, [nodeAt(1), nodeAt(3)]), hostsOf([nodeAt(1), nodeAt(3)]), 'also by those that came before');
  t.same(await finds(first, [nodeAt(2), nodeAt(3)]), hostsOf([nodeAt(2), nodeAt(3)]), 'and by the first of all');
  const stranger = await open(4, OTHER_KEY, [first.address]);
  t.same(await stranger.addresses(), [], 'another key is another cluster');
  await first.close();
  const late = await open(5, KEY, [third.address]);
  t.same(await finds(late, [nodeAt(2), nodeAt(3)]), hostsOf([nodeAt(2), nodeAt(3)]), 'also when the first is gone');
});
