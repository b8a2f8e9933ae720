/** Requests of the NetworkDriver calls: Docker's JSON in, the types of types.ts out. */
import * as v from 'valibot';
import { IP_PROTOCOL } from '../base/ip-protocols.ts';
import { bytesToMac } from '../base/ip.ts';
import type * as t from './types.ts';
import { Cidr, Flag, Id, MaybeCidr, MaybeIp, MaybeMac, StringMap, list, present, text } from './wire.ts';

type Schema<Output> = v.GenericSchema<unknown, Output>;

const PORT_MAP = 'com.docker.network.portmap';
const EXPOSED_PORTS = 'com.docker.network.endpoint.exposedports';
const MAC = 'com.docker.network.endpoint.macaddress';
const DNS_SERVERS = 'com.docker.network.endpoint.dnsservers';
const GENERIC = 'com.docker.network.generic';
/** Docker's own entries among the endpoint options; the rest is the user's --driver-opt. */
const OWN_ENDPOINT_OPTIONS = new Set([PORT_MAP, EXPOSED_PORTS, MAC, DNS_SERVERS, GENERIC]);

/** Docker writes protocols as numbers. */
const PROTOCOLS = new Map<number, t.PluginProtocol>([[IP_PROTOCOL.tcp, 'tcp'], [IP_PROTOCOL.udp, 'udp'], [IP_PROTOCOL.sctp, 'sctp']]);
const Protocol = v.pipe(v.number(), v.check((value) => PROTOCOLS.has(value), 'Invalid protocol'), v.transform((value) => PROTOCOLS.get(value)!));

const port = (smallest: number) => v.pipe(v.number(), v.integer(), v.minValue(smallest), v.maxValue(65_535));
const MaybePort = v.nullish(port(0), 0);

const Binding = v.pipe(
  v.object({ Proto: Protocol, Port: port(1), HostIP: MaybeIp, HostPort: MaybePort, HostPortEnd: MaybePort }),
  v.transform(({ Proto, Port, HostIP, HostPort, HostPortEnd }): t.PortBinding => ({
    protocol: Proto, containerPort: Port, hostPort: HostPort, hostPortEnd: Math.max(HostPort, HostPortEnd), hostIp: HostIP,
  })),
);
const Exposed = v.pipe(
  v.object({ Proto: Protocol, Port: port(1) }),
  v.transform(({ Proto, Port }): t.ExposedPort => ({ protocol: Proto, port: Port })),
);

/** What Docker knows of the container's ports; the same in CreateEndpoint, Join and ProgramExternalConnectivity. */
const Ports = v.pipe(
  v.nullish(v.object({ [PORT_MAP]: list(Binding), [EXPOSED_PORTS]: list(Exposed) }), {}),
  v.transform((options) => ({ portMap: options[PORT_MAP], exposedPorts: options[EXPOSED_PORTS] })),
);

/** Six bytes in base64: Go's encoding of a byte slice. */
const EncodedMac = v.pipe(
  text(16),
  v.transform((value) => Buffer.from(value, 'base64')),
  v.check((bytes) => bytes.length === 0 || bytes.length === 6, 'Invalid MAC address'),
  v.transform((bytes) => bytesToMac(bytes)),
);

const EndpointOptions = v.pipe(
  v.nullish(v.looseObject({ [PORT_MAP]: list(Binding), [EXPOSED_PORTS]: list(Exposed), [MAC]: EncodedMac, [DNS_SERVERS]: list(text(64)) }), {}),
  v.transform((options) => ({
    portMap: options[PORT_MAP],
    exposedPorts: options[EXPOSED_PORTS],
    mac: options[MAC],
    dnsServers: options[DNS_SERVERS],
    driverOptions: Object.fromEntries(
      Object.entries(options).filter((entry): entry is [string, string] => typeof entry[1] === 'string' && !OWN_ENDPOINT_OPTIONS.has(entry[0])),
    ),
  })),
);

const NetworkOptions = v.pipe(
  v.nullish(v.object({
    [GENERIC]: StringMap,
    'com.docker.network.enable_ipv4': v.nullish(v.boolean(), true),
    'com.docker.network.enable_ipv6': Flag,
    'com.docker.network.internal': Flag,
  }), {}),
  v.transform((options) => ({
    options: options[GENERIC],
    enableIpv4: options['com.docker.network.enable_ipv4'],
    enableIpv6: options['com.docker.network.enable_ipv6'],
    internal: options['com.docker.network.internal'],
  })),
);

const Pool = v.pipe(
  v.object({ AddressSpace: text(256), Pool: Cidr, Gateway: MaybeCidr, AuxAddresses: v.nullish(v.record(v.string(), Cidr), {}) }),
  v.transform(({ AddressSpace, Pool: pool, Gateway, AuxAddresses }): t.AddressPool => ({
    addressSpace: AddressSpace, pool, ...present({ gateway: Gateway }), auxAddresses: AuxAddresses,
  })),
);

export const CreateNetwork: Schema<t.CreateNetworkRequest> = v.pipe(
  v.object({ NetworkID: Id, Options: NetworkOptions, IPv4Data: list(Pool), IPv6Data: list(Pool) }),
  v.transform(({ NetworkID, Options, IPv4Data, IPv6Data }) => ({ networkId: NetworkID, ...Options, ipv4: IPv4Data, ipv6: IPv6Data })),
);

export const AllocateNetwork: Schema<t.AllocateNetworkRequest> = v.pipe(
  v.object({ NetworkID: Id, Options: StringMap, IPv4Data: list(Pool), IPv6Data: list(Pool) }),
  v.transform(({ NetworkID, Options, IPv4Data, IPv6Data }) => ({ networkId: NetworkID, options: Options, ipv4: IPv4Data, ipv6: IPv6Data })),
);

export const GwAllocCheck: Schema<t.GwAllocCheckRequest> = v.pipe(v.object({ Options: NetworkOptions }), v.transform(({ Options }) => Options));

/** DeleteNetwork and FreeNetwork. */
export const OnNetwork: Schema<t.NetworkReference> = v.pipe(
  v.object({ NetworkID: Id }),
  v.transform(({ NetworkID }) => ({ networkId: NetworkID })),
);

/** DeleteEndpoint, EndpointOperInfo, Leave and RevokeExternalConnectivity. */
export const OnEndpoint: Schema<t.EndpointReference> = v.pipe(
  v.object({ NetworkID: Id, EndpointID: Id }),
  v.transform(({ NetworkID, EndpointID }) => ({ networkId: NetworkID, endpointId: EndpointID })),
);

export const CreateEndpoint: Schema<t.CreateEndpointRequest> = v.pipe(
  v.object({
    NetworkID: Id,
    EndpointID: Id,
    Interface: v.nullish(v.object({ Address: MaybeCidr, AddressIPv6: MaybeCidr, MacAddress: MaybeMac }), {}),
    Options: EndpointOptions,
  }),
  v.transform(({ NetworkID, EndpointID, Interface: { Address, AddressIPv6, MacAddress }, Options: { mac, ...options } }) => ({
    networkId: NetworkID,
    endpointId: EndpointID,
    ...present({ address: Address, addressIpv6: AddressIPv6, macAddress: MacAddress || mac }),
    ...options,
  })),
);

export const Join: Schema<t.JoinRequest> = v.pipe(
  v.object({ NetworkID: Id, EndpointID: Id, SandboxKey: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)), Options: Ports }),
  v.transform(({ NetworkID, EndpointID, SandboxKey, Options }) => ({ networkId: NetworkID, endpointId: EndpointID, sandboxKey: SandboxKey, ...Options })),
);

export const ProgramExternalConnectivity: Schema<t.ProgramExternalConnectivityRequest> = v.pipe(
  v.object({ NetworkID: Id, EndpointID: Id, Options: Ports }),
  v.transform(({ NetworkID, EndpointID, Options }) => ({ networkId: NetworkID, endpointId: EndpointID, ...Options })),
);

/** DiscoverNew and DiscoverDelete. */
export const Discovery: Schema<t.DiscoveryRequest> = v.pipe(
  v.object({
    DiscoveryType: v.pipe(v.number(), v.integer()),
    DiscoveryData: v.nullish(v.object({ Address: text(256), BindAddress: text(256), Self: Flag }), {}),
  }),
  v.transform(({ DiscoveryType, DiscoveryData: { Address, BindAddress, Self } }) => ({
    type: DiscoveryType, address: Address, bindAddress: BindAddress, self: Self,
  })),
);
