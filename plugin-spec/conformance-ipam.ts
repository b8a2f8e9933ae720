/** The IPAM driver's part of the conformance kit. */
import { checkBadInput, expect, type Kit } from './conformance-kit.ts';

const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };
const plain = (cidr: unknown): string => String(cidr).split('/', 1)[0]!;

export async function checkIpamDriver(kit: Kit): Promise<void> {
  const { check, ok, refused, subnet } = kit;
  const { LocalDefaultAddressSpace: AddressSpace } = await ok('IpamDriver.GetDefaultAddressSpaces').catch(() => ({ LocalDefaultAddressSpace: '' }));
  const requestPool = (Pool: string): Promise<Record<string, unknown>> => ok('IpamDriver.RequestPool', { AddressSpace, Pool, SubPool: '', Options: {}, V6: false });

  await check('IPAM capabilities are the same each time', async () => {
    const answers = await Promise.all([1, 2].map(() => ok('IpamDriver.GetCapabilities')));
    expect(JSON.stringify(answers[0]) === JSON.stringify(answers[1]), 'they differ');
  });
  await check('address spaces are named', () => ok('IpamDriver.GetDefaultAddressSpaces'));

  await check('a pool, its gateway and its addresses, from request to release', async () => {
    const { PoolID, Pool } = await requestPool(subnet(0));
    try {
      expect(Pool === subnet(0), `asked for ${subnet(0)}, got ${String(Pool)}`);
      const { Address: gateway } = await ok('IpamDriver.RequestAddress', { PoolID, Address: '', Options: GATEWAY });
      await ok('IpamDriver.RequestAddress', { PoolID, Address: subnet(0).replace(/0\/24$/, '9'), Options: null });
      const first = await ok('IpamDriver.RequestAddress', { PoolID, Address: '', Options: null });
      const second = await ok('IpamDriver.RequestAddress', { PoolID, Address: '', Options: { 'com.docker.network.endpoint.name': 'c1' } });
      expect(new Set([gateway, first['Address'], second['Address']]).size === 3, `an address was given out twice: ${String(gateway)}, ${String(first['Address'])}, ${String(second['Address'])}`);
      expect(String(first['Address']).endsWith('/24'), `${String(first['Address'])} has not the length of its pool`);
      await refused('IpamDriver.RequestAddress', { PoolID, Address: plain(first['Address']), Options: null });
      for (const Address of [first, second].map((answer) => plain(answer['Address']))) {
        await ok('IpamDriver.ReleaseAddress', { PoolID, Address });
        await ok('IpamDriver.ReleaseAddress', { PoolID, Address });
      }
      await ok('IpamDriver.ReleaseAddress', { PoolID, Address: plain(gateway) });
    } finally {
      await ok('IpamDriver.ReleasePool', { PoolID });
      await ok('IpamDriver.ReleasePool', { PoolID });
    }
  });
  await check('pools chosen by the driver differ while they are held', async () => {
    // Docker keeps what it rejects until it has one that suits it.
    const held = [await requestPool(''), await requestPool(''), await requestPool('')];
    for (const { PoolID } of held) await ok('IpamDriver.ReleasePool', { PoolID });
    expect(new Set(held.map(({ Pool }) => Pool)).size === held.length, held.map(({ Pool }) => String(Pool)).join(', '));
  });
  await check('addresses asked for at once are all different', async () => {
    const { PoolID } = await requestPool(subnet(1));
    const answers = await Promise.all(Array.from({ length: 16 }, () => ok('IpamDriver.RequestAddress', { PoolID, Address: '', Options: null })));
    const addresses = answers.map(({ Address }) => plain(Address));
    for (const Address of addresses) await ok('IpamDriver.ReleaseAddress', { PoolID, Address });
    await ok('IpamDriver.ReleasePool', { PoolID });
    expect(new Set(addresses).size === addresses.length, addresses.join(', '));
  });
  await check('addresses come from the range of a pool, and by name from all of it', async () => {
    const at = (last: string): string => subnet(4).replace(/0\/24$/, last);
    const { PoolID, Pool } = await ok('IpamDriver.RequestPool', { AddressSpace, Pool: subnet(4), SubPool: at('64/30'), Options: null, V6: false });
    try {
      expect(Pool === subnet(4), `the pool is ${String(Pool)}`);
      const { Address: named } = await ok('IpamDriver.RequestAddress', { PoolID, Address: at('9'), Options: null });
      expect(named === at('9/24'), `asked for ${at('9')}, got ${String(named)}`);
      const given = new Set<unknown>();
      for (let i = 0; i < 3; i++) given.add((await ok('IpamDriver.RequestAddress', { PoolID, Address: '', Options: null }))['Address']);
      expect(given.size === 3 && [...given].every((each) => [64, 65, 66, 67].some((last) => each === at(`${last}/24`))), [...given].map(String).join(', '));
    } finally {
      await ok('IpamDriver.ReleasePool', { PoolID });
    }
  });
  await check('unknown pools: requests are refused, releases succeed', async () => {
    const PoolID = subnet(2);
    await refused('IpamDriver.RequestAddress', { PoolID, Address: '', Options: null });
    await ok('IpamDriver.ReleaseAddress', { PoolID, Address: plain(subnet(2)).replace(/0$/, '7') });
    await ok('IpamDriver.ReleasePool', { PoolID });
  });
  await check('a pool that is no subnet is refused', () =>
    refused('IpamDriver.RequestPool', { AddressSpace, Pool: 'nonsense', SubPool: '', Options: {}, V6: false }));

  await checkBadInput(kit, {
    'IpamDriver.RequestPool': { AddressSpace, Pool: subnet(3), SubPool: '', Options: {}, V6: false },
    'IpamDriver.ReleasePool': { PoolID: subnet(3) },
    'IpamDriver.RequestAddress': { PoolID: subnet(3), Address: '', Options: {} },
    'IpamDriver.ReleaseAddress': { PoolID: subnet(3), Address: '' },
  }, 'IpamDriver.GetCapabilities');
}
