/** What dockerd asks of a network driver when all goes well. */
import { NotApplicable, allAtOnce, checksOf, expect, expectSameEachTime } from './check.ts';
import { endpointRequest, expectNotModified, idsOf, joinRequest, life, networkRequest, newNetwork, start, startAndStop, stop } from './network-requests.ts';

export const networkChecks = checksOf('NetworkDriver', [
  {
    name: 'capabilities',
    level: 'must',
    rule: "GetCapabilities names a Scope ('local' or 'global') and answers the same each time.",
    why: 'Docker does not register a driver without a Scope, and asks up to three times in a row, again after each restart.',
    run: (kit) => expectSameEachTime(kit, 'NetworkDriver.GetCapabilities'),
  },
  {
    name: 'network',
    level: 'must',
    rule: 'A network and a container on it work from creation to removal, though there is nothing yet at the SandboxKey of Join.',
    why: 'That is docker network create, run -p 80, rm, network rm. Engines up to 27 make the sandbox only after Join; EndpointOperInfo is asked twice, and 404 there fails the start.',
    run: async (kit) => void await life(kit),
  },
  {
    name: 'same-subnet',
    level: 'must',
    rule: 'What a removed network used can be used again at once.',
    why: 'Docker gives a freed subnet to the next network.',
    run: async (kit) => {
      const subnet = kit.newSubnet();
      for (let i = 0; i < 2; i++) await life(kit, { subnet });
    },
  },
  {
    name: 'restart-container',
    level: 'must',
    rule: 'A stopped container starts again on its network, with its address and MAC address, under another endpoint id.',
    why: 'Endpoint ids and sandboxes are new at each start; the addresses of --ip and --mac-address are not.',
    run: async (kit) => {
      const { ids, subnet } = await newNetwork(kit);
      for (let i = 0; i < 2; i++) await startAndStop(kit, ids, subnet.at(20), { mac: '02:42:0d:ec:af:02' });
    },
  },
  {
    name: 'fields-of-docker',
    level: 'must',
    rule: 'CreateEndpoint answers with fields that came empty only.',
    why: "Docker takes a field that it set and gets back for a modification ('Cannot be modified'), and rolls the endpoint back.",
    run: async (kit) => {
      expectNotModified(await life(kit), ['Address']);
      expectNotModified(await life(kit, { mac: '02:42:0d:ec:af:01' }), ['Address', 'MacAddress']);
    },
  },
  {
    name: 'mac-address',
    level: 'should',
    rule: 'CreateEndpoint answers with a MAC address when none came.',
    why: 'Otherwise docker inspect shows none, and the address is whatever the kernel gave.',
    run: async (kit) => expect(Boolean((await life(kit)).endpoint['MacAddress']), 'Interface.MacAddress is missing'),
  },
  {
    name: 'internal',
    level: 'must',
    rule: 'Join answers without a gateway on an internal network.',
    why: 'Docker would set a default route out of a network that must have none, and ask for published ports on it.',
    run: async (kit) => {
      const { join } = await life(kit, { internal: true });
      expect(!join['Gateway'] && !join['GatewayIPv6'], `Join gives the gateway ${String(join['Gateway'] || join['GatewayIPv6'])}`);
    },
  },
  {
    name: 'ipv6',
    level: 'must',
    rule: 'A network with IPv6 is refused, or works like any other.',
    why: 'docker network create --ipv6.',
    run: async (kit) => {
      const NetworkID = kit.newId();
      const subnet = kit.newSubnet();
      const { error } = await kit.outcome('NetworkDriver.CreateNetwork', networkRequest(NetworkID, subnet, { ipv6: true }));
      if (error !== undefined) throw new NotApplicable(`the driver takes no IPv6: ${error}`);
      expectNotModified(await startAndStop(kit, { NetworkID }, subnet.at(20), { ipv6: subnet.ipv6.at(0x20) }), ['Address', 'AddressIPv6']);
    },
  },
  {
    name: 'parallel-networks',
    level: 'must',
    rule: 'Networks that are made, used and removed at the same time do not disturb each other.',
    why: 'Docker serialises the calls of one network, not those of several.',
    run: async (kit) => void await allAtOnce([1, 2, 3, 4].map(() => life(kit))),
  },
  {
    name: 'several-endpoints',
    level: 'must',
    rule: 'Containers of one network have links of their own, and one may leave while others stay.',
    why: 'Docker moves the link that Join names into the sandbox: one name twice fails the second container.',
    run: async (kit) => {
      const { ids: { NetworkID }, subnet } = await newNetwork(kit);
      const containers = [20, 21, 22].map((host) => ({ host, ids: { NetworkID, EndpointID: kit.newId() } }));
      const links: unknown[] = [];
      for (const { host, ids } of containers) {
        const { join } = await start(kit, ids, subnet.at(host));
        links.push((join['InterfaceName'] as { SrcName: string }).SrcName);
      }
      expect(new Set(links).size === links.length, `InterfaceName.SrcName is ${links.join(', ')}`);
      await kit.ok('NetworkDriver.Leave', { ...containers[0]!.ids });
      await kit.ok('NetworkDriver.DeleteEndpoint', { ...containers[0]!.ids });
      await kit.ok('NetworkDriver.EndpointOperInfo', { ...containers[1]!.ids });
    },
  },
  {
    name: 'nulls',
    level: 'must',
    rule: 'null and absence mean empty, and unknown members are passed over.',
    why: 'Docker sends null or nothing for empty maps and lists, depending on the engine, and each engine brings new members.',
    run: async (kit) => {
      const ids = idsOf(kit);
      const subnet = kit.newSubnet();
      await kit.ok('NetworkDriver.CreateNetwork', {
        NetworkID: ids.NetworkID,
        Options: { 'com.docker.network.generic': null, 'com.docker.network.some_news': [1] },
        IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: subnet.cidr, Gateway: subnet.at(1), AuxAddresses: {} }],
        IPv6Data: null,
        News: {},
      });
      await kit.ok('NetworkDriver.CreateEndpoint', { ...ids, Interface: { Address: subnet.at(20) }, Options: null, News: 1 });
      await kit.ok('NetworkDriver.Join', { ...joinRequest(kit, ids), Options: { 'com.docker.network.generic': { ChildEndpoints: null, ParentEndpoints: null } } });
      await kit.ok('NetworkDriver.Leave', { ...ids, News: 1 });
    },
  },
  {
    name: 'gateway-check',
    level: 'must',
    rule: 'A driver whose capabilities say GwAllocChecker answers GwAllocCheck.',
    why: 'Engines from 28 ask before each network, and the network fails with the call.',
    run: async (kit) => {
      if ((await kit.ok('NetworkDriver.GetCapabilities'))['GwAllocChecker'] !== true) throw new NotApplicable('GwAllocChecker is not among the capabilities');
      await kit.ok('NetworkDriver.GwAllocCheck', { Options: networkRequest(kit.newId(), kit.newSubnet()).Options });
    },
  },
  {
    name: 'swarm',
    level: 'must',
    rule: 'A driver of scope global allocates a network for swarm, takes its id of 25 digits, and may be told to free it first.',
    why: 'The manager sends AllocateNetwork and FreeNetwork, the nodes get the rest; the free comes some ten seconds before the nodes leave.',
    run: async (kit) => {
      if ((await kit.ok('NetworkDriver.GetCapabilities'))['Scope'] !== 'global') throw new NotApplicable('the scope is local');
      const ids = { NetworkID: kit.newId('swarm'), EndpointID: kit.newId() };
      const subnet = kit.newSubnet();
      const { IPv4Data } = networkRequest(ids.NetworkID, subnet);
      const { Options } = await kit.ok('NetworkDriver.AllocateNetwork', { NetworkID: ids.NetworkID, Options: {}, IPv4Data, IPv6Data: null });
      await kit.ok('NetworkDriver.CreateNetwork', { ...networkRequest(ids.NetworkID, subnet), Options: { 'com.docker.network.generic': Options } });
      const answered = await start(kit, ids, subnet.at(20));
      await kit.ok('NetworkDriver.FreeNetwork', { NetworkID: ids.NetworkID });
      await stop(kit, ids, answered);
    },
  },
  {
    name: 'discovery',
    level: 'should',
    rule: 'DiscoverNew and DiscoverDelete succeed.',
    why: 'Docker tells drivers of swarm nodes, whatever their scope, and logs an error otherwise.',
    run: async ({ ok }) => {
      // TEST-NET-1 (RFC 5737): a node that nobody takes for one of theirs.
      const node = { DiscoveryType: 1, DiscoveryData: { Address: '192.0.2.1', BindAddress: '192.0.2.1', Self: false } };
      await ok('NetworkDriver.DiscoverNew', node);
      await ok('NetworkDriver.DiscoverDelete', node);
    },
  },
  {
    name: 'create-twice',
    level: 'should',
    rule: 'CreateNetwork for a network that is there as described succeeds.',
    why: 'Swarm sends it again when a node comes back.',
    run: async (kit) => {
      const { ids, subnet } = await newNetwork(kit);
      await kit.ok('NetworkDriver.CreateNetwork', networkRequest(ids.NetworkID, subnet));
      await kit.ok('NetworkDriver.CreateEndpoint', endpointRequest(ids, subnet.at(20)));
    },
  },
]);
