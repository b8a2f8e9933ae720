/** The network driver's requests as dockerd words them, and a network's whole life. */
import { expect } from './check.ts';
import type { Kit, Subnet } from './kit.ts';

export interface Ids { NetworkID: string; EndpointID: string }

/** `docker run -p 80 --expose 80`. */
export const PORTS = {
  'com.docker.network.portmap': [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 0, HostPortEnd: 0 }],
  'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
};

export const idsOf = (kit: Kit): Ids => ({ NetworkID: kit.newId(), EndpointID: kit.newId() });

export const networkRequest = (NetworkID: string, subnet: Subnet, { internal = false, ipv6 = false } = {}) => ({
  NetworkID,
  Options: {
    'com.docker.network.generic': {}, 'com.docker.network.enable_ipv4': true, 'com.docker.network.enable_ipv6': ipv6,
    ...(internal && { 'com.docker.network.internal': true }),
  },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: subnet.cidr, Gateway: subnet.at(1) }],
  IPv6Data: ipv6 ? [{ AddressSpace: 'LocalDefault', Pool: subnet.ipv6.cidr, Gateway: subnet.ipv6.at(1) }] : [],
});

export const endpointRequest = (ids: Ids, address: string, { mac = '', ipv6 = '' } = {}) => ({
  ...ids,
  Interface: { Address: address, AddressIPv6: ipv6, MacAddress: mac },
  Options: { ...PORTS, ...(mac !== '' && { 'com.docker.network.endpoint.macaddress': Buffer.from(mac.replaceAll(':', ''), 'hex').toString('base64') }) },
});

export const joinRequest = (kit: Kit, ids: Ids) => ({ ...ids, SandboxKey: kit.newSandbox(), Options: PORTS });

export interface Answered { endpoint: Record<string, string | undefined>; join: Record<string, unknown> }

/** A network of the kit's own, and ids for its first container. */
export async function newNetwork(kit: Kit): Promise<{ ids: Ids; subnet: Subnet }> {
  const ids = idsOf(kit);
  const subnet = kit.newSubnet();
  await kit.ok('NetworkDriver.CreateNetwork', networkRequest(ids.NetworkID, subnet));
  return { ids, subnet };
}

/** CreateEndpoint, Join and what follows when a container starts. */
export async function start(kit: Kit, ids: Ids, address: string, options: { mac?: string; ipv6?: string } = {}): Promise<Answered> {
  const { ok } = kit;
  const { Interface } = await ok('NetworkDriver.CreateEndpoint', endpointRequest(ids, address, options));
  const join = await ok('NetworkDriver.Join', joinRequest(kit, ids));
  if (join['Gateway'] || join['GatewayIPv6']) {
    await ok('NetworkDriver.ProgramExternalConnectivity', { ...ids, Options: { ...PORTS, 'com.docker.network.driver.private.no_proxy_6to4': false } });
  }
  for (let i = 0; i < 2; i++) await ok('NetworkDriver.EndpointOperInfo', { ...ids });
  return { endpoint: (Interface ?? {}) as Record<string, string | undefined>, join };
}

/** A container that starts and stops: under an endpoint id of its own, as at each start. */
export async function startAndStop(kit: Kit, { NetworkID }: Pick<Ids, 'NetworkID'>, address: string, options: { mac?: string; ipv6?: string } = {}): Promise<Answered> {
  const ids = { NetworkID, EndpointID: kit.newId() };
  const answered = await start(kit, ids, address, options);
  await stop(kit, ids, answered);
  return answered;
}

/** What follows when it stops. */
export async function stop({ ok }: Kit, ids: Ids, { join }: Answered): Promise<void> {
  const calls = [...(join['Gateway'] || join['GatewayIPv6'] ? ['RevokeExternalConnectivity'] : []), 'Leave', 'DeleteEndpoint'];
  for (const call of calls) await ok(`NetworkDriver.${call}`, { ...ids });
}

/** A network with one container, from creation to removal. */
export async function life(kit: Kit, { subnet = kit.newSubnet(), internal = false, mac = '' } = {}): Promise<Answered> {
  const NetworkID = kit.newId();
  await kit.ok('NetworkDriver.CreateNetwork', networkRequest(NetworkID, subnet, { internal }));
  const answered = await startAndStop(kit, { NetworkID }, subnet.at(20), { mac });
  await kit.ok('NetworkDriver.DeleteNetwork', { NetworkID });
  return answered;
}

/** The calls that take everything away again, in Docker's order. */
export const removal = (ids: Ids): { call: string; body: object }[] => [
  ...['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint'].map((call) => ({ call: `NetworkDriver.${call}`, body: { ...ids } })),
  { call: 'NetworkDriver.DeleteNetwork', body: { NetworkID: ids.NetworkID } },
];

/** Docker refuses fields that it set itself. */
export function expectNotModified({ endpoint }: Answered, fields: string[]): void {
  for (const field of fields) expect(!endpoint[field], `CreateEndpoint sends ${field} back (${endpoint[field]}), which Docker set itself`);
}
