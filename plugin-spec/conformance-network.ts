/** The network driver's part of the conformance kit. */
import { checkBadInput, expect, newId, type Kit } from './conformance-kit.ts';

interface Ids { NetworkID: string; EndpointID: string }

const PORTS = {
  'com.docker.network.portmap': [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 0, HostPortEnd: 0 }],
  'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
};

const hostAddress = (subnet: string, n: number): string => subnet.replace(/\d+\/(\d+)$/, `${n}/$1`);

const networkBody = (NetworkID: string, subnet: string, { internal = false } = {}): Record<string, unknown> => ({
  NetworkID,
  Options: {
    'com.docker.network.generic': {}, 'com.docker.network.enable_ipv4': true, 'com.docker.network.enable_ipv6': false,
    ...(internal && { 'com.docker.network.internal': true }),
  },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: subnet, Gateway: hostAddress(subnet, 1) }],
  IPv6Data: [],
});

const endpointBody = (ids: Ids, address: string): Record<string, unknown> => ({
  ...ids, Interface: { Address: address, AddressIPv6: '', MacAddress: '' }, Options: { ...PORTS, 'user.option': 'yes' },
});

export async function checkNetworkDriver(kit: Kit): Promise<void> {
  const { check, ok, refused, subnet } = kit;
  const sandbox = (): string => `${kit.sandboxDirectory}/${newId().slice(0, 12)}`;

  /** Creates, uses and removes; `times` is how often each call comes. */
  async function life(pool: string, { times = 1, internal = false, id = newId() } = {}): Promise<void> {
    const ids = { NetworkID: id, EndpointID: newId() };
    const each = async (call: string, body: unknown): Promise<Record<string, unknown>> => {
      for (let i = 1; i < times; i++) await ok(`NetworkDriver.${call}`, body);
      return ok(`NetworkDriver.${call}`, body);
    };
    try {
      await each('CreateNetwork', networkBody(id, pool, { internal }));
      const { Interface } = await each('CreateEndpoint', endpointBody(ids, hostAddress(pool, 20)));
      const { MacAddress, Address } = (Interface ?? {}) as { MacAddress?: string; Address?: string };
      expect(MacAddress !== undefined, 'CreateEndpoint gives no MAC address, so inspections show none');
      expect(!Address, 'CreateEndpoint sends back the address that Docker chose, which Docker refuses');
      const { Gateway } = await each('Join', { ...ids, SandboxKey: sandbox(), Options: PORTS });
      expect(!internal || !Gateway, 'Join gives a gateway on an internal network');
      if (Gateway) await each('ProgramExternalConnectivity', { ...ids, Options: { ...PORTS, 'com.docker.network.driver.private.no_proxy_6to4': false } });
      await ok('NetworkDriver.EndpointOperInfo', ids);
      await ok('NetworkDriver.EndpointOperInfo', ids);
      await each('RevokeExternalConnectivity', ids);
      await each('Leave', ids);
    } finally {
      await each('DeleteEndpoint', ids);
      await each('DeleteNetwork', { NetworkID: id });
    }
  }

  await check('capabilities are the same each time', async () => {
    const answers = await Promise.all([1, 2, 3].map(() => ok('NetworkDriver.GetCapabilities')));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size === 1, 'they differ');
  });
  await check('a network and an endpoint, from creation to removal', () => life(subnet(0)));
  await check('the same again in the same subnet', () => life(subnet(0)));
  await check('each call may come twice', () => life(subnet(1), { times: 2 }));
  await check('an internal network gets no gateway', () => life(subnet(2), { internal: true }));
  await check('a network of swarm, with its shorter id', () => life(subnet(3), { id: BigInt(`0x${newId()}`).toString(36).slice(0, 25) }));
  await check('networks side by side', () => Promise.all([4, 5, 6, 7].map((n) => life(subnet(n)))));

  await check('a container that leaves in Docker\'s other orders', async () => {
    const ids = { NetworkID: newId(), EndpointID: newId() };
    try {
      await ok('NetworkDriver.CreateNetwork', networkBody(ids.NetworkID, subnet(8)));
      // A failed Join is followed by DeleteEndpoint alone; after a crash Docker deletes networks whose endpoints it forgot.
      await ok('NetworkDriver.CreateEndpoint', endpointBody(ids, hostAddress(subnet(8), 20)));
      await ok('NetworkDriver.Join', { ...ids, SandboxKey: sandbox(), Options: {} });
      await ok('NetworkDriver.DeleteEndpoint', ids);
      await ok('NetworkDriver.Leave', ids);
      const again = { ...ids, EndpointID: newId() };
      await ok('NetworkDriver.CreateEndpoint', endpointBody(again, hostAddress(subnet(8), 20)));
      await ok('NetworkDriver.DeleteEndpoint', again);
    } finally {
      await ok('NetworkDriver.DeleteNetwork', { NetworkID: ids.NetworkID });
    }
  });

  await check('removing what never was succeeds', async () => {
    const ids = { NetworkID: newId(), EndpointID: newId() };
    for (const call of ['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint']) await ok(`NetworkDriver.${call}`, ids);
    for (const call of ['DeleteNetwork', 'FreeNetwork']) await ok(`NetworkDriver.${call}`, { NetworkID: ids.NetworkID });
  });
  await check('using what never was is refused', async () => {
    const ids = { NetworkID: newId(), EndpointID: newId() };
    await refused('NetworkDriver.CreateEndpoint', endpointBody(ids, hostAddress(subnet(9), 20)));
    await refused('NetworkDriver.Join', { ...ids, SandboxKey: sandbox(), Options: {} });
  });
  await check('nulls, empty maps and unknown keys are understood', async () => {
    const ids = { NetworkID: newId(), EndpointID: newId() };
    try {
      await ok('NetworkDriver.CreateNetwork', {
        NetworkID: ids.NetworkID,
        Options: { 'com.docker.network.generic': null, 'com.docker.network.some_news': [1] },
        IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: subnet(9), Gateway: hostAddress(subnet(9), 1), AuxAddresses: {} }],
        IPv6Data: null,
        News: {},
      });
      await ok('NetworkDriver.CreateEndpoint', { ...ids, Interface: { Address: hostAddress(subnet(9), 20) }, Options: null, News: 1 });
      await ok('NetworkDriver.Join', { ...ids, SandboxKey: sandbox(), Options: { 'com.docker.network.generic': { ChildEndpoints: null, ParentEndpoints: null } } });
      await ok('NetworkDriver.Leave', { ...ids, News: 1 });
    } finally {
      await ok('NetworkDriver.DeleteEndpoint', ids);
      await ok('NetworkDriver.DeleteNetwork', { NetworkID: ids.NetworkID });
    }
  });
  await check('discovery is taken note of', () =>
    ok('NetworkDriver.DiscoverNew', { DiscoveryType: 1, DiscoveryData: { Address: '10.99.0.1', BindAddress: '10.99.0.1', Self: true } }));

  const ids = { NetworkID: newId(), EndpointID: newId() };
  await checkBadInput(kit, {
    'NetworkDriver.CreateNetwork': networkBody(ids.NetworkID, subnet(9)),
    'NetworkDriver.DeleteNetwork': { NetworkID: ids.NetworkID },
    'NetworkDriver.CreateEndpoint': endpointBody(ids, hostAddress(subnet(9), 20)),
    'NetworkDriver.DeleteEndpoint': { ...ids },
    'NetworkDriver.EndpointOperInfo': { ...ids },
    'NetworkDriver.Join': { ...ids, SandboxKey: sandbox(), Options: {} },
    'NetworkDriver.Leave': { ...ids },
    'NetworkDriver.ProgramExternalConnectivity': { ...ids, Options: PORTS },
    'NetworkDriver.RevokeExternalConnectivity': { ...ids },
    'NetworkDriver.FreeNetwork': { NetworkID: ids.NetworkID },
    'NetworkDriver.DiscoverNew': { DiscoveryType: 1 },
    'NetworkDriver.DiscoverDelete': { DiscoveryType: 1 },
  }, 'NetworkDriver.GetCapabilities');
}
