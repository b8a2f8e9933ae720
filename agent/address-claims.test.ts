import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { Endpoint, Network } from '../cnm/model.ts';
import { createAddressManager } from '../ipam/manager.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createAddressClaims } from './address-claims.ts';

const network = (more: Partial<Network>): Network => ({
  id: 'n', name: 'web', driver: 'overlay', scope: 'cluster', node: 'a', subnets: [{ subnet: '10.1.0.0/30' }, { subnet: '10.2.0.0/30' }], ipam: 'weft', internal: false,
  options: {}, labels: {}, attachable: true, createdAt: '', ...more,
});
const endpoint = (id: string, address: string, more: Partial<Endpoint> = {}): Endpoint => ({ id, networkId: 'n', address, mac: '', ports: [], options: {}, createdAt: '', ...more });

void test('several subnets: the first that has room', async (t) => {
  const clock = new VirtualClock();
  const stores = storesForTests(t, clock);
  const [local, store] = [stores.local(), stores.store()];
  const addresses = createAddressManager({ store, local, node: { id: 'a', name: 'a' }, clock, log, occupied: () => [] });
  t.teardown(() => addresses.close());
  await addresses.start();
  for (const subnet of ['10.1.0.0/30', '10.2.0.0/30']) await addresses.requestPool({ subnet });
  const claims = createAddressClaims(addresses, 'a');
  const web = network({});
  const given: (string | undefined)[] = [];
  for (let i = 0; i < 4; i++) given.push(await claims.claim(web, `e${i}`, 4, undefined));
  t.same(given, ['10.1.0.2/30', '10.1.0.1/30', '10.2.0.2/30', '10.2.0.1/30']);
  await t.rejects(claims.claim(web, 'e5', 4, undefined), { code: 'WEFT-POOL-EXHAUSTED', message: /10\.2\.0\.0/ });
  await claims.release(web, endpoint('e3', '10.2.0.1/30'));
  t.equal(await claims.claim(web, 'e6', 4, '10.2.0.1'), '10.2.0.1/30', 'by name, from the subnet it is in');
  await t.rejects(claims.claim(web, 'e7', 4, '10.9.0.1'), { code: 'WEFT-ADDRESS-OUTSIDE' });
  await claims.release(web, endpoint('e3', '10.2.0.1/30'));
  t.equal(claims.holderOf(web, '10.2.0.1/30'), 'e6', 'a release that comes late frees nobody else\'s');
  t.equal(claims.holderOf(web, '10.9.0.1/30'), undefined);
  await addresses.releaseAddress('10.2.0.0/30', '10.2.0.2');
  await addresses.requestAddress({ subnet: '10.2.0.0/30', address: '10.2.0.2', holder: 'docker-7', chooser: 'weft' });
  await claims.release(web, endpoint('e9', '10.2.0.2/30', { heldAs: 'docker-5' }));
  t.equal(claims.holderOf(web, '10.2.0.2/30'), 'docker-7');
  await claims.release(web, endpoint('e9', '10.2.0.2/30', { heldAs: 'docker-7' }));
  t.equal(claims.holderOf(web, '10.2.0.2/30'), undefined);
  await addresses.requestPool({ subnet: 'fd00:1::/64' });
  const dual = network({ subnets: [{ subnet: '10.1.0.0/30' }, { subnet: 'fd00:1::/64' }] });
  t.equal(await claims.claim(dual, 'e8', 6, undefined), 'fd00:1::ffff:fffe/64', 'of the other family only');
  t.equal(await claims.claim(dual, 'e9', 6, 'FD00:1::0:7/64'), 'fd00:1::7/64');
  await t.rejects(claims.claim(dual, 'e10', 4, undefined), { code: 'WEFT-POOL-EXHAUSTED', message: /10\.1\.0\.0/ });
  t.equal(await claims.claim(web, 'e10', 6, undefined), undefined, 'a network without IPv6');
  await claims.release(dual, { id: 'e8', address: '10.1.0.2/30', addressIpv6: 'fd00:1::ffff:fffe/64' });
  t.equal(claims.holderOf(dual, 'fd00:1::ffff:fffe/64'), undefined);
  t.equal(claims.holderOf(dual, '10.1.0.2/30'), 'e0', 'what is another\'s stays');
  const here = network({ scope: 'node', ipam: 'docker' });
  t.equal(await claims.claim(here, 'e8', 4, '172.18.0.2/16'), '172.18.0.2/16', 'Docker\'s own networks need no claim');
  await claims.release(here, endpoint('e8', '172.18.0.2/16'));
});
