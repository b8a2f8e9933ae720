// The option, and what becomes of it where there is no WireGuard or it cannot be set up. What it does: encrypted-network.test.ts.
import { test } from 'tap';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { Repair } from '../../cnm/driver.ts';
import type { Network } from '../../cnm/model.ts';
import { openWireguard } from '../../linux/wireguard.ts';
import { isEncrypted } from '../options.ts';
import { SharedState, Underlay, network, nodeInfo } from '../testbed.ts';
import { createEncryption } from './encryption.ts';
import { generateKeyPair } from './key-pair.ts';
import { Node } from './testbed.ts';

const secret = network('secret', 'overlay', '10.20.0.0/24', { vni: 0x800001, options: { encrypted: '' } });
const plain = network('plain', 'overlay', '10.22.0.0/24', { vni: 0x800002 });

test('the option', (t) => {
  const encrypted = (options: Record<string, string>): boolean => isEncrypted({ ...plain, options });
  t.notOk(encrypted({}));
  for (const value of ['', 'true', '1']) t.ok(encrypted({ encrypted: value }), `encrypted=${value}`);
  t.ok(encrypted({ 'weft.encrypted': 'true' }));
  t.notOk(encrypted({ encrypted: 'false' }));
  t.throws(() => encrypted({ encrypted: 'aes' }), { code: 'WEFT-OPTION-VALUE' });
  t.end();
});

test('where the kernel has no WireGuard', async (t) => {
  const underlay = new Underlay();
  t.teardown(() => underlay.remove());
  const wireguard = openWireguard(underlay.router.netns);
  wireguard?.close();
  if (wireguard) return void t.pass('skipped', { skip: 'this kernel has WireGuard' });
  const networks: Network[] = [plain];
  const shared = new SharedState();
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  t.throws(() => a.driver.validate(secret), { code: 'WEFT-ENCRYPTION', message: /network secret is encrypted, and this host cannot encrypt: its kernel has no WireGuard; load it/ });
  t.throws(() => a.driver.validate(network('e', 'overlay', '240.0.7.0/24')), { code: 'WEFT-SUBNET-OVERLAP' });
  t.same(a.driver.problems(), []);

  // Another node, which has it, made the network.
  networks.push(secret);
  for (const node of [a, b]) for (const each of networks) await node.driver.createNetwork(each);
  await t.rejects(a.attach('s1', secret, '10.20.0.11'), { code: 'WEFT-ENCRYPTION' });
  t.match(a.driver.problems(), [/^WEFT-ENCRYPTION: network secret is encrypted/]);
  t.equal(shared.of('a').list('node').find(({ owner }) => owner === 'a')!.value.wireguard, undefined);
  const p1 = await a.attach('p1', plain, '10.22.0.11');
  const p2 = await b.attach('p2', plain, '10.22.0.21');
  await nextTurn();
  t.ok(p1.container.pings(p2.ip), 'the others work beside it');
  t.same(await a.repair(), [], 'and nothing is mended again and again');
});

test('who does not answer is named, and so is what keeps the link from being set up', async (t) => {
  const underlay = new Underlay();
  t.teardown(() => underlay.remove());
  const alone = underlay.router;
  const link = openWireguard(alone.netns);
  if (!link) return void t.pass('skipped', { skip: 'this kernel has no WireGuard' });
  t.teardown(() => link.close());
  const clock = new VirtualClock();
  const keys = generateKeyPair();
  let isFull = false;
  const read = () => {
    if (isFull) throw new Error('ENOSPC: no space left on device');
    return keys;
  };
  const said: unknown[] = [];
  const encryption = createEncryption({ host: alone.rtnl, fabric: alone.rtnl, port: 7953, keys: read, announce: (place) => void said.push(place), clock });
  t.teardown(() => encryption.close());
  const other = { ...nodeInfo('z', 9, '10.99.9.9'), wireguard: { publicKey: generateKeyPair().publicKey, port: 7952 } };
  const ensure = (): Repair[] => {
    const found: Repair[] = [];
    encryption.ensure(nodeInfo('y', 8, '10.99.9.8'), [other], 1440, found);
    return found;
  };
  t.match(ensure(), [{ what: /was missing/ }]);
  t.same(encryption.silent(), [], 'it has a moment');
  await clock.advance(11_000);
  t.same(encryption.silent(), ['z']);
  t.equal(encryption.receivedFrom('z'), 0);
  await encryption.remove();
  t.same(said, [{ publicKey: keys.publicKey, port: 7953 }, undefined]);

  const index = alone.rtnl.addLink({ kind: 'wireguard', name: 'other' });
  link.set('other', { listenPort: 7953 });
  alone.rtnl.setLink(index, { up: true });
  t.match(ensure().at(-1), { what: 'encryption could not be set up', error: /EADDRINUSE/ });
  t.match(encryption.problem(), { detail: /EADDRINUSE/, hint: /7953\/udp/ });
  await alone.rtnl.deleteLink(index);
  ensure();
  t.equal(encryption.problem(), undefined);

  const before = said.length;
  const unreachable = { ...nodeInfo('x', 10, '10.99.9.10'), wireguard: { publicKey: 'AAAA', port: 7952 } };
  const found: Repair[] = [];
  encryption.ensure(nodeInfo('y', 8, '10.99.9.8'), [other, unreachable], 1440, found);
  t.match(found.at(-1), { what: 'encryption could not be set up' });
  t.ok(encryption.problem());
  t.equal(said.length, before, 'one peer that the kernel refuses: this node is there for the others');
  ensure();
  t.equal(encryption.problem(), undefined);

  isFull = true;
  t.match(ensure(), [{ what: 'encryption could not be set up', error: /ENOSPC/ }]);
  t.match(encryption.problem(), { detail: /ENOSPC/, hint: /disk/ });
  isFull = false;
  ensure();
  t.equal(encryption.problem(), undefined);
});
