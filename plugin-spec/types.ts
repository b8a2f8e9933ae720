/**
 * Docker's plugin calls as handlers see them: validated, decoded and named our way. Whatever Docker may leave out or
 * send as null has its neutral value here; `''` for an address becomes an absent field.
 */

export type MaybePromise<T> = T | Promise<T>;

export type PluginProtocol = 'tcp' | 'udp' | 'sctp';

export interface AddressPool {
  /** What the IPAM driver called its address space; 'LocalDefault' is Docker's own. */
  addressSpace: string;
  /** 'address/length', of either family: swarm sends IPv6 pools among the IPv4 ones. */
  pool: string;
  /** 'address/length' */
  gateway?: string;
  /** Name → 'address/length'. */
  auxAddresses: Record<string, string>;
}

export interface PortBinding {
  protocol: PluginProtocol;
  containerPort: number;
  /** 0: any free port. */
  hostPort: number;
  /** Last port of the range to choose from; equal to hostPort where there is no range. */
  hostPortEnd: number;
  /** '' is every address. */
  hostIp: string;
}

export interface ExposedPort { protocol: PluginProtocol; port: number }

/** Every id: 64 hex digits, or 25 base-36 digits for a network that swarm made. */
export interface NetworkReference { networkId: string }
export interface EndpointReference extends NetworkReference { endpointId: string }

interface NetworkOptions {
  /** `docker network create -o`. */
  options: Record<string, string>;
  /** Engines before 28 never say so: true. */
  enableIpv4: boolean;
  enableIpv6: boolean;
  internal: boolean;
}

export interface CreateNetworkRequest extends NetworkReference, NetworkOptions { ipv4: AddressPool[]; ipv6: AddressPool[] }
export interface AllocateNetworkRequest extends NetworkReference { options: Record<string, string>; ipv4: AddressPool[]; ipv6: AddressPool[] }
export type GwAllocCheckRequest = NetworkOptions;

export interface CreateEndpointRequest extends EndpointReference {
  /** 'address/length' */
  address?: string;
  /** 'address/length' */
  addressIpv6?: string;
  /** '02:42:…', lower case. */
  macAddress?: string;
  /** Left out by Docker where a bridge of its own already publishes the container's ports; Join has them always. */
  portMap: PortBinding[];
  exposedPorts: ExposedPort[];
  dnsServers: string[];
  /** `docker network connect --driver-opt`. */
  driverOptions: Record<string, string>;
}

export interface JoinRequest extends EndpointReference {
  /** Path of the network namespace; up to engine 27 there is nothing at it yet when a container starts. */
  sandboxKey: string;
  portMap: PortBinding[];
  exposedPorts: ExposedPort[];
}

export interface ProgramExternalConnectivityRequest extends EndpointReference { portMap: PortBinding[]; exposedPorts: ExposedPort[] }

export interface DiscoveryRequest {
  /** 1 is a node, the only type that plugins are told of. */
  type: number;
  address: string;
  bindAddress: string;
  self: boolean;
}

export interface NetworkCapabilities {
  scope: 'local' | 'global';
  connectivityScope: 'local' | 'global';
  /** Engines from 28 then ask gwAllocCheck before each network. */
  gwAllocChecker: boolean;
}

/** Only what Docker left open counts: fields it has set already are not sent back, since Docker refuses that. */
export interface CreateEndpointAnswer {
  /** 'address/length' */
  address?: string;
  /** 'address/length' */
  addressIpv6?: string;
  macAddress?: string;
}

export interface StaticRoute {
  /** 'address/length' */
  destination: string;
  /** Absent: on the link itself. */
  nextHop?: string;
}

export interface JoinAnswer {
  /** The link, in dockerd's namespace, and the prefix of the name it gets in the sandbox. */
  interfaceName: { srcName: string; dstPrefix: string };
  /** Plain address. */
  gateway?: string;
  /** Plain address. */
  gatewayIpv6?: string;
  staticRoutes?: StaticRoute[];
  /** Without a gateway: keep Docker from attaching docker_gwbridge. */
  disableGatewayService?: boolean;
}

/**
 * A network driver. Docker repeats calls, sends them for ids that never were or are gone, and several networks' at
 * once: leave, delete…, free and revoke succeed for what is unknown. What is thrown reaches the user as the error.
 */
export interface NetworkDriverHandlers {
  /** Asked up to three times in a row: cheap and always the same. */
  capabilities(): MaybePromise<NetworkCapabilities>;
  createNetwork(request: CreateNetworkRequest): Promise<void>;
  deleteNetwork(request: NetworkReference): Promise<void>;
  createEndpoint(request: CreateEndpointRequest): Promise<CreateEndpointAnswer>;
  deleteEndpoint(request: EndpointReference): Promise<void>;
  /** Any object; Docker shows it to nobody. */
  endpointOperInfo(request: EndpointReference): Promise<Record<string, unknown>>;
  join(request: JoinRequest): Promise<JoinAnswer>;
  leave(request: EndpointReference): Promise<void>;
  programExternalConnectivity(request: ProgramExternalConnectivityRequest): Promise<void>;
  revokeExternalConnectivity(request: EndpointReference): Promise<void>;
  /** Swarm manager, scope global: the answer replaces the user's options on the nodes. */
  allocateNetwork?(request: AllocateNetworkRequest): Promise<{ options: Record<string, string> }>;
  freeNetwork?(request: NetworkReference): Promise<void>;
  gwAllocCheck?(request: GwAllocCheckRequest): Promise<{ skipIpv4: boolean; skipIpv6: boolean }>;
  discoverNew?(request: DiscoveryRequest): Promise<void>;
  discoverDelete?(request: DiscoveryRequest): Promise<void>;
}

export interface IpamCapabilities { requiresMacAddress: boolean; requiresRequestReplay: boolean }

export interface RequestPoolRequest {
  addressSpace: string;
  /** 'address/length'; '' is: choose one, another at each call until it is released. */
  pool: string;
  /** `--ip-range`, or ''. */
  subPool: string;
  /** `--ipam-opt`. */
  options: Record<string, string>;
  v6: boolean;
}

/** `pool` is 'address/length'; `poolId` comes back verbatim. */
export interface RequestPoolAnswer { poolId: string; pool: string; data?: Record<string, string> }

export interface RequestAddressRequest {
  poolId: string;
  /** Plain address; '' is: choose one. */
  address: string;
  options: Record<string, string>;
}

/** `address` is 'address/length'. */
export interface RequestAddressAnswer { address: string; data?: Record<string, string> }

export interface ReleasePoolRequest { poolId: string }

/** `address` is plain. */
export interface ReleaseAddressRequest { poolId: string; address: string }

/** An IPAM driver; the releases succeed for what is unknown. */
export interface IpamDriverHandlers {
  capabilities(): MaybePromise<IpamCapabilities>;
  defaultAddressSpaces(): MaybePromise<{ local: string; global: string }>;
  requestPool(request: RequestPoolRequest): Promise<RequestPoolAnswer>;
  releasePool(request: ReleasePoolRequest): Promise<void>;
  requestAddress(request: RequestAddressRequest): Promise<RequestAddressAnswer>;
  releaseAddress(request: ReleaseAddressRequest): Promise<void>;
}
