/** What dockerd asks of an IPAM driver. */
import { NotApplicable, allAtOnce, checksOf, expect, expectSameEachTime } from './check.ts';
import { malformed, refusesEmptyBody } from './malformed.ts';
import type { Kit } from './kit.ts';

const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' };
const AT_ONCE = 16;

const plain = (cidr: unknown): string => String(cidr).split('/', 1)[0]!;

async function poolRequest({ ok }: Kit, Pool: string, more: object = {}): Promise<Record<string, unknown>> {
  const { LocalDefaultAddressSpace: AddressSpace } = await ok('IpamDriver.GetDefaultAddressSpaces');
  return { AddressSpace, Pool, SubPool: '', Options: {}, V6: false, ...more };
}

/** Addresses of a pool, which are given as 'ip/length' and asked for and released as 'ip'. */
const addressesOf = ({ ok }: Kit, PoolID: unknown) => ({
  request: async (Address: string, Options: object | null = null): Promise<string> =>
    String((await ok('IpamDriver.RequestAddress', { PoolID, Address, Options }))['Address']),
  release: (Address: string): Promise<unknown> => ok('IpamDriver.ReleaseAddress', { PoolID, Address: plain(Address) }),
});

/** A pool of the kit's own. */
async function newPool(kit: Kit, subnet = kit.newSubnet()) {
  const { PoolID, Pool } = await kit.ok('IpamDriver.RequestPool', await poolRequest(kit, subnet.cidr));
  return { subnet, PoolID, Pool, releasePool: () => kit.ok('IpamDriver.ReleasePool', { PoolID }), ...addressesOf(kit, PoolID) };
}

const replays = async (kit: Kit): Promise<boolean> => (await kit.ok('IpamDriver.GetCapabilities'))['RequiresRequestReplay'] === true;

async function requests(kit: Kit): Promise<Record<string, Record<string, unknown>>> {
  const PoolID = kit.newId();
  const subnet = kit.newSubnet();
  return {
    'IpamDriver.RequestPool': await poolRequest(kit, subnet.cidr),
    'IpamDriver.RequestAddress': { PoolID, Address: '', Options: {} },
    'IpamDriver.ReleaseAddress': { PoolID, Address: subnet.plain(9) },
    'IpamDriver.ReleasePool': { PoolID },
  };
}

export const ipamChecks = checksOf('IpamDriver', [
  {
    name: 'ipam-capabilities',
    level: 'should',
    rule: 'GetCapabilities answers, and the same each time.',
    why: 'Docker asks after every restart; without an answer it takes both capabilities for false and logs it.',
    run: (kit) => expectSameEachTime(kit, 'IpamDriver.GetCapabilities'),
  },
  {
    name: 'address-spaces',
    level: 'must',
    rule: 'GetDefaultAddressSpaces names both address spaces, the same each time.',
    why: 'Docker does not register the driver otherwise; from 27 on it asks before each RequestPool, and sends the name along.',
    run: (kit) => expectSameEachTime(kit, 'IpamDriver.GetDefaultAddressSpaces'),
  },
  {
    name: 'pool',
    level: 'must',
    rule: 'The pool that was asked for is given, its addresses are different, lie in it and have its length.',
    why: 'Docker asks for a pool, the gateway, each --aux-address by name and an address for each endpoint, and gives all of it back.',
    run: async (kit) => {
      const { subnet, Pool, request, release, releasePool } = await newPool(kit);
      expect(Pool === subnet.cidr, `asked for ${subnet.cidr}, got ${String(Pool)}`);
      const given = [await request('', GATEWAY), await request(subnet.plain(99)), await request('')];
      expect(given[1] === subnet.at(99), `asked for ${subnet.plain(99)}, got ${given[1]}`);
      given.push(await request('', { 'com.docker.network.endpoint.macaddress': '02:42:0d:ec:af:01', 'com.docker.network.endpoint.name': 'c1' }));
      expect(new Set(given).size === given.length, `an address was given out twice: ${given.join(', ')}`);
      const inPool = Array.from({ length: 256 }, (_, host) => subnet.at(host));
      for (const each of given) expect(inPool.includes(each), `${each} is not an address of ${subnet.cidr} with its length`);
      for (const each of given) await release(each);
      await releasePool();
    },
  },
  {
    name: 'same-pool',
    level: 'must',
    rule: 'A released pool can be requested again at once.',
    why: 'docker network rm, then create.',
    run: async (kit) => {
      const subnet = kit.newSubnet();
      for (let i = 0; i < 2; i++) {
        const { request, release, releasePool } = await newPool(kit, subnet);
        await release(await request(subnet.plain(9)));
        await releasePool();
      }
    },
  },
  {
    name: 'same-address',
    level: 'must',
    rule: 'A released address can be requested again at once.',
    why: 'A container with --ip that is restarted.',
    run: async (kit) => {
      const { subnet, request, release } = await newPool(kit);
      for (let i = 0; i < 2; i++) await release(await request(subnet.plain(9)));
    },
  },
  {
    name: 'taken-address',
    level: 'must',
    rule: 'An address that is in use is refused when it is asked for by name.',
    why: 'Two containers with the same --ip: Docker itself does not look.',
    run: async (kit) => {
      if (await replays(kit)) throw new NotApplicable('with RequiresRequestReplay, addresses in use are asked for again');
      const { subnet, PoolID, request } = await newPool(kit);
      await request(subnet.plain(9));
      await kit.refused('IpamDriver.RequestAddress', { PoolID, Address: subnet.plain(9), Options: null }, `${subnet.plain(9)} is given out twice`);
    },
  },
  {
    name: 'chosen-pools',
    level: 'must',
    rule: 'A driver that chooses pools gives another one each time, until they are released.',
    why: 'Docker holds on to pools that overlap with something else and asks until it gets one that does not.',
    run: async (kit) => {
      const first = await kit.outcome('IpamDriver.RequestPool', await poolRequest(kit, ''));
      if (first.error !== undefined) throw new NotApplicable(`the driver chooses none: ${first.error}`);
      const held = [first.value['Pool']];
      for (let i = 0; i < 2; i++) held.push((await kit.ok('IpamDriver.RequestPool', await poolRequest(kit, '')))['Pool']);
      expect(new Set(held).size === held.length, held.join(', '));
    },
  },
  {
    name: 'parallel-addresses',
    level: 'must',
    rule: 'Addresses that are asked for at the same time are all different.',
    why: 'Containers that start at once.',
    run: async (kit) => {
      const { request } = await newPool(kit);
      const given = await allAtOnce(Array.from({ length: AT_ONCE }, () => request('')));
      expect(new Set(given).size === given.length, given.join(', '));
    },
  },
  {
    name: 'ip-range',
    level: 'must',
    rule: 'Addresses that the driver chooses come from SubPool; those asked for by name may be outside of it.',
    why: 'docker network create --ip-range.',
    run: async (kit) => {
      const subnet = kit.newSubnet();
      const range = [64, 65, 66, 67].map((host) => subnet.at(host));
      const { value, error } = await kit.outcome('IpamDriver.RequestPool', await poolRequest(kit, subnet.cidr, { SubPool: `${subnet.plain(64)}/30` }));
      if (value === undefined) throw new NotApplicable(`the driver takes no range: ${error}`);
      expect(value['Pool'] === subnet.cidr, `the pool is ${String(value['Pool'])}, not ${subnet.cidr}`);
      const { request } = addressesOf(kit, value['PoolID']);
      const named = await request(subnet.plain(9));
      expect(named === subnet.at(9), `asked for ${subnet.plain(9)}, got ${named}`);
      for (let i = 0; i < 2; i++) {
        const chosen = await request('');
        expect(range.includes(chosen), `${chosen} is not in ${subnet.plain(64)}/30`);
      }
    },
  },
  {
    name: 'ipam-ipv6',
    level: 'must',
    rule: 'An IPv6 pool is refused, or works like any other.',
    why: 'docker network create --ipv6 --subnet.',
    run: async (kit) => {
      const { cidr } = kit.newSubnet().ipv6;
      const { value, error } = await kit.outcome('IpamDriver.RequestPool', await poolRequest(kit, cidr, { V6: true }));
      if (value === undefined) throw new NotApplicable(`the driver takes no IPv6: ${error}`);
      expect(value['Pool'] === cidr, `asked for ${cidr}, got ${String(value['Pool'])}`);
      const address = await addressesOf(kit, value['PoolID']).request('');
      expect(address.includes(':') && address.endsWith('/64'), `got ${address}`);
    },
  },
  {
    name: 'unknown-pool',
    level: 'must',
    rule: 'An address of a pool that is not there is refused.',
    why: 'A driver that lost its state would give addresses out twice.',
    run: async (kit) => void await kit.refused('IpamDriver.RequestAddress', { PoolID: kit.newId(), Address: '', Options: null }, 'an address of a pool that was never requested'),
  },
  {
    name: 'release-again',
    level: 'should',
    rule: 'ReleaseAddress and ReleasePool succeed when they come again, and for what never was.',
    why: 'Docker sends them after trouble, too; an error helps nobody and ends in the log.',
    run: async (kit) => {
      const { subnet, PoolID, request } = await newPool(kit);
      await request(subnet.plain(9));
      for (const id of [PoolID, kit.newId()]) {
        for (let i = 0; i < 2; i++) await kit.ok('IpamDriver.ReleaseAddress', { PoolID: id, Address: subnet.plain(9) });
        for (let i = 0; i < 2; i++) await kit.ok('IpamDriver.ReleasePool', { PoolID: id });
      }
    },
  },
  {
    name: 'replay',
    level: 'must',
    rule: 'A driver with RequiresRequestReplay gives the same pool and addresses again.',
    why: 'At every start Docker requests them anew, the pool by its subnet, the addresses by name, though the plugin may have forgotten nothing. They are released once.',
    run: async (kit) => {
      if (!await replays(kit)) throw new NotApplicable('RequiresRequestReplay is not among the capabilities');
      const subnet = kit.newSubnet();
      const rounds: string[] = [];
      for (let i = 0; i < 2; i++) {
        await kit.ok('Plugin.Activate');
        const { PoolID, Pool, request } = await newPool(kit, subnet);
        rounds.push([PoolID, Pool, await request(subnet.plain(1), GATEWAY), await request(subnet.plain(9))].join(' '));
      }
      expect(rounds[0] === rounds[1], `${rounds[0]}, then ${rounds[1]}`);
    },
  },
  {
    name: 'ipam-empty-body',
    level: 'must',
    rule: 'A call that comes without its body is refused, and the plugin lives on.',
    why: 'When a connection breaks after a request was sent, Docker repeats the call after 1, 2, 4 and 8 s with an empty body.',
    run: async (kit) => refusesEmptyBody(kit, await requests(kit), ['IpamDriver.RequestPool', 'IpamDriver.RequestAddress']),
  },
  {
    name: 'ipam-malformed',
    level: 'should',
    rule: 'What is no JSON object, members of a wrong type, and a pool that is no subnet are refused.',
    why: 'Docker sends none, but everybody who reaches the socket can.',
    run: async (kit) => {
      await malformed(kit, await requests(kit));
      await kit.refused('IpamDriver.RequestPool', await poolRequest(kit, 'nonsense'), "accepted for the pool 'nonsense'");
    },
  },
]);
