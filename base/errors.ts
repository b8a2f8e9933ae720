/**
 * The registry of coded errors. Every failure a user can meet has a code, a cause in words and a fix; the same text
 * reaches them through `docker` (as the plugin's Err) and through `weft`. docs/reference/errors.md is generated from it.
 * `{name}` in a text is replaced by the parameter of that name.
 */
export const ERRORS = {
  'WEFT-INPUT-MALFORMED': { cause: '{what} is malformed: {detail}', fix: 'send the call as the plugin API describes it' },
  'WEFT-INPUT-JSON': { cause: 'the request body is not JSON: {detail}', fix: 'send one JSON object' },
  'WEFT-INPUT-EMPTY': { cause: 'the request of {call} has no body', fix: 'repeat the command: the connection broke while Docker was sending it' },
  'WEFT-CALL-UNKNOWN': { cause: 'there is no call {call}', fix: 'check that this engine is supported' },
  'WEFT-CALL-TIMEOUT': { cause: '{call} took longer than {seconds} s', fix: 'see `weft status`; the command can be repeated safely' },
  'WEFT-OPTION-UNKNOWN': { cause: 'driver {driver} has no option {option}', fix: '{hint}' },
  'WEFT-OPTION-VALUE': { cause: 'option {option} cannot be {value}', fix: '{hint}' },
  'WEFT-FEATURE-MISSING': { cause: '{feature} is not supported by this version', fix: '{hint}' },
  'WEFT-DRIVER-UNKNOWN': { cause: 'there is no driver {driver}', fix: 'use one of {known}' },
  'WEFT-SUBNET-MALFORMED': { cause: '{subnet} is not a subnet that can be used', fix: 'give it as address/length, for example 10.192.4.0/24' },
  'WEFT-SUBNET-OVERLAP': { cause: 'subnet {subnet} overlaps {other}', fix: 'choose another one, for example --subnet {suggestion}' },
  'WEFT-SUBNET-NONE': { cause: 'network {network} has no subnet', fix: 'give one with --subnet' },
  'WEFT-POOLS-EXHAUSTED': { cause: 'no free subnet is left in the default pools {pools}', fix: 'remove a network or give --subnet' },
  'WEFT-POOL-UNKNOWN': { cause: 'there is no address pool {pool}', fix: 'create the network again; `weft network ls` shows what exists' },
  'WEFT-POOL-EXHAUSTED': { cause: 'no free address is left in {pool} for this node: {detail}', fix: 'remove containers, or use a larger subnet; `weft ipam ls` shows who has what' },
  'WEFT-GATEWAY-OUTSIDE': { cause: 'gateway {gateway} is not a host address of subnet {subnet}', fix: 'choose an address inside the subnet' },
  'WEFT-RANGE-OUTSIDE': { cause: 'address range {range} is not inside subnet {subnet}', fix: 'choose a range inside the subnet' },
  'WEFT-ADDRESS-MALFORMED': { cause: '{address} is not an address', fix: 'give it as 10.192.4.7 or fd00::7' },
  'WEFT-ADDRESS-OUTSIDE': { cause: 'address {address} is not a host address of pool {pool}', fix: 'choose one inside the subnet that is neither the network nor the broadcast address' },
  'WEFT-ADDRESS-IN-USE': { cause: 'address {address} is in use by {holder}', fix: 'choose another address, or leave it to Weft' },
  'WEFT-ADDRESS-ELSEWHERE': { cause: 'address {address} was handed out by Docker, but its block belongs to node {node}', fix: 'create the network with --ipam-driver weft, which keeps addresses apart by construction: {command}' },
  'WEFT-ADDRESS-FOREIGN': { cause: 'address {address} is in a block of addresses that node {node} hands out', fix: 'start the container there, choose an address in a block of this node ({own}), or leave it to Weft' },
  'WEFT-ADDRESS-ON-LAN': { cause: 'address {address} is in use on the network of {parent} by the machine with MAC {mac}', fix: 'give the container another address, or keep Weft from handing out addresses of others with --ip-range or --aux-address' },
  'WEFT-PARENT-MISSING': { cause: 'node {node} has no interface {parent}', fix: 'give one of {known} with -o parent=, or another one for this node with -o weft.parent.{node}=' },
  'WEFT-PARENT-UNFIT': { cause: 'interface {parent} cannot carry this network: {detail}', fix: '{hint}' },
  'WEFT-PARENT-VLAN': { cause: 'the kernel of this host cannot make the 802.1Q interface {parent}: it was built without CONFIG_VLAN_8021Q', fix: 'load the module (`modprobe 8021q`), or give a parent that exists' },
  'WEFT-LINK-KIND': { cause: 'the kernel of node {node} has no {kind} links', fix: 'load the module (`modprobe {kind}`), boot a kernel that was built with CONFIG_{option}, or {hint}' },
  'WEFT-MAC-SHARED': { cause: 'a container on network {network} cannot have MAC address {mac}: all have that of the interface they stand on, {shared}', fix: 'leave it out, or use weft-macvlan' },
  'WEFT-RECLAIM-UNKNOWN': { cause: 'there is not one node {node} that has blocks of addresses', fix: 'give the id of one that has: {known}' },
  'WEFT-RECLAIM-ALIVE': { cause: 'node {node} may still use its addresses: {why}', fix: 'switch it off for good first, and wait until `weft status` shows it as dead' },
  'WEFT-NETWORK-UNKNOWN': { cause: 'there is no network {network}', fix: '`weft network ls` shows the networks' },
  'WEFT-NETWORK-EXISTS': { cause: 'there is a network {network} already', fix: 'choose another name, or remove it with `weft network rm {network}`' },
  'WEFT-NETWORK-BUSY': { cause: 'network {network} still has endpoints: {endpoints}', fix: 'disconnect them first' },
  'WEFT-NETWORK-ABSENT': { cause: 'Docker on this host does not have network {network}: {detail}', fix: '{hint}' },
  'WEFT-CONTAINER-UNKNOWN': { cause: 'there is neither a container nor a sandbox {name} on this host, or it is not on that network', fix: '`docker ps -a` and `weft ps` show what is here' },
  'WEFT-NOT-CONNECTED': { cause: '{name} is not on network {network}', fix: '`weft network inspect {network}` shows who is' },
  'WEFT-ENDPOINT-UNKNOWN': { cause: 'there is no endpoint {endpoint}', fix: 'start the container again' },
  'WEFT-SANDBOX-GONE': { cause: 'there is no network namespace at {path}', fix: 'start the container again, or give the path of a namespace that exists' },
  'WEFT-SANDBOX-EXISTS': { cause: 'sandbox {name} exists already', fix: 'choose another name, or remove it with `weft sandbox rm {name}`' },
  'WEFT-SANDBOX-UNKNOWN': { cause: 'there is no sandbox {name}', fix: '`weft ps` shows what runs on this node' },
  'WEFT-IPV6-DISABLED': { cause: 'network {network} has IPv6 subnets, and this host has no IPv6: {detail}', fix: '{hint}; or use a network without IPv6' },
  'WEFT-ENCRYPTION': { cause: 'network {network} is encrypted, and this host cannot encrypt: {detail}', fix: '{hint}; or use a network without the option encrypted' },
  'WEFT-MTU-TOO-LARGE': { cause: 'an MTU of {mtu} does not fit: the route to the other nodes carries {underlay}, and the encapsulation takes {overhead}', fix: 'use {largest} or less, or leave the option out' },
  'WEFT-PATH-MTU': { cause: 'packets of more than {passes} bytes from node {from} get lost on the way to node {to}, and nobody says so: interfaces and routes promise {said}', fix: 'let what is between the two carry {said}, and firewalls there pass ICMP "fragmentation needed"; or set the MTU of the nodes\' interfaces to {passes}. Meanwhile overlays use {mtu} at most, but for those with an MTU option of their own' },
  'WEFT-PORT-HELD': { cause: 'port {port}/{proto} belongs to service {service}', fix: 'choose another host port, or stop that service; `weft ps` shows who publishes what' },
  'WEFT-PORT-HOST': { cause: 'port {port}/{proto} is in use on this host', fix: 'choose another host port, or stop the program that listens there' },
  'WEFT-PORT-RANGE': { cause: 'none of the ports {range}/{proto} is free: others publish them, or programs of this host have them', fix: 'choose a wider range or another one; `weft ps` shows who publishes what, `ss -lntu` what this host has' },
  'WEFT-PORT-TWICE': { cause: 'host port {port}/{proto} is asked for twice: for port {first} and for port {second} of the container', fix: 'give each a host port of its own' },
  'WEFT-PORT-ADDRESS': { cause: '{address} is not an address of this host', fix: 'publish on one that is, or on all of them' },
  'WEFT-STORE-UNREACHABLE': { cause: 'the store at {store} cannot be used: {detail}', fix: 'check that it runs, that this host reaches it and that it accepts this host; containers already started are not affected' },
  'WEFT-STORE-LOST': { cause: 'the store {path} of this host is gone or empty', fix: 'bring the file back, or a backup with `weft restore FILE`; `weft down --purge` begins anew' },
  'WEFT-STORE-EMPTY': { cause: 'the store ({store}) has nothing of this cluster: it was emptied, or is another one', fix: 'what runs goes on, and nothing is written there; if the address is right, bring the store back with `weft restore FILE` on one host, and join the others again' },
  'WEFT-STORE-LOCKED': { cause: 'the store {path} is open in another process', fix: 'stop the other weftd first; `fuser {path}` shows which it is' },
  'WEFT-DISK': { cause: 'this node cannot write its own state to {path}: {detail}', fix: 'make room on that disk; nothing that was answered is lost, and weftd goes on by itself' },
  'WEFT-STORE-ETCD': { cause: 'a cluster needs etcd 3.4 or newer on this host: {detail}', fix: 'install it (`apt-get install etcd-server`, and `systemctl disable --now etcd`: weftd runs its own), or use an etcd of yours with `weft up --store`' },
  'WEFT-STORE-ALONE': { cause: 'this host belongs to no cluster', fix: 'make it one with `weft token`, or join one with `weft join`' },
  'WEFT-STORE-OCCUPIED': { cause: 'the store at {store} is not empty: it has {count} entries of another cluster', fix: 'use an empty one, or join that cluster' },
  'WEFT-STORE-MEMBERS': { cause: '{most} nodes hold a copy of the store, and all of them are there', fix: 'more would make it slower, not safer; take a node out with `weft node rm` first' },
  'WEFT-STORE-QUORUM': { cause: 'the change would leave the store without a majority: {detail}', fix: 'bring the members that are away back first; `weft status` shows them' },
  'WEFT-STORE-MEMBER-BUSY': { cause: 'another node is becoming a member of the store at this moment', fix: 'repeat the command in a moment' },
  'WEFT-STORE-MEMBER-BEHIND': { cause: 'the copy of the store on this node has not caught up yet', fix: 'repeat the command in a moment; `weft status` shows how far it is' },
  'WEFT-STORE-CONFLICT': { cause: '{what} was changed by another node at the same moment', fix: 'repeat the command' },
  'WEFT-KERNEL': { cause: 'the kernel refused to {what}: {detail}', fix: 'see `weft status`; the kernel log may say more' },
  'WEFT-DOCKER': { cause: 'Docker refused {what}: {detail}', fix: 'see the Docker daemon\'s log' },
  'WEFT-TOKEN-MALFORMED': { cause: 'this is not a join token: {detail}', fix: 'copy it whole from `weft token` on a node of the cluster' },
  'WEFT-TOKEN-REFUSED': { cause: 'the cluster refuses the join token: {detail}', fix: 'get a new one by `weft token` on a node of the cluster' },
  'WEFT-JOIN-UNREACHABLE': { cause: 'no node of the cluster answers at {address}: {detail}', fix: 'check the address, and that TCP {port} is open there' },
  'WEFT-JOIN-STRANGER': { cause: 'who answers at {address} is not of the cluster that the token is for', fix: 'check the address; if it is right, somebody is between you and the cluster: nothing was told to it' },
  'WEFT-JOIN-STORE': { cause: 'this host could not use the cluster\'s store: {ports} closed to it; nothing was changed here', fix: '{advice}, then join again' },
  'WEFT-JOIN-ETCD': { cause: 'the cluster\'s store, an etcd of yours at {endpoints}, does not accept this host: {detail}; nothing was changed here', fix: 'give the files that it wants (--store-ca, --store-cert, --store-key); for a user and a password join with --no-start and write them to the configuration' },
  'WEFT-PORT-CLOSED': { cause: '{port} of node {node} is closed to {from}: {consequence}', fix: '{advice}' },
  'WEFT-JOIN-AGAIN': { cause: 'this host is in a cluster already', fix: 'take it off first: `weft down --purge`' },
  'WEFT-IDENTITY': { cause: 'the identity of this node cannot be used: {detail}', fix: 'join the cluster again: `weft down --purge`, then `weft join` with a new token' },
  'WEFT-OPENSSL': { cause: 'openssl cannot make a certificate: {detail}', fix: 'install the package openssl (3.0 or newer)' },
  'WEFT-RECORD-MALFORMED': { cause: '{what} cannot be in a DNS record: {detail}', fix: '{hint}' },
  'WEFT-RECORD-ALONE': { cause: '{name} cannot have a {type} record: it has {others} already, and a CNAME stands alone', fix: 'remove what it has (`weft dns rm {name}`), or choose another name' },
  'WEFT-RECORD-MANY': { cause: '{name} has {most} {type} records already', fix: 'remove some of them with `weft dns rm {name} {type} VALUE`' },
  'WEFT-RECORD-UNKNOWN': { cause: 'there is no record {record}', fix: '`weft dns ls` shows them; those of one network are removed with --network' },
  'WEFT-DNS-ABSENT': { cause: 'weftd does not answer names in {sandbox}', fix: 'its log says why; it tries again by itself every 30 s' },
  'WEFT-DNS-ADDRESS': { cause: 'programs of this host cannot be answered at {address}: {detail}', fix: 'see who has port 53 there (`ss -lntup`), or choose another address: `weft dns host on --address`' },
  'WEFT-NODE-UNKNOWN': { cause: 'there is not one node {node}', fix: '`weft node ls` shows the nodes; where several have one name, give the id' },
  'WEFT-NODE-EXISTS': { cause: 'there is a node {node} already', fix: 'join under another name: --name' },
  'WEFT-NODE-NUMBERS': { cause: 'the numbers of nodes end at {last}, and all are taken', fix: 'take nodes out that are gone (`weft node rm`), or give all nodes a larger nodePrefix' },
  'WEFT-NODE-PREFIX': { cause: 'the prefix {prefix} of the nodes\' own addresses overlaps {other} of this host', fix: 'begin the cluster with another one: `weft up --node-prefix`' },
  'WEFT-NODE-AWAY': { cause: 'node {node} does not answer', fix: 'start it first, or choose another one; `weft node ls` shows the nodes' },
  'WEFT-NODE-CLONED': { cause: 'this host is a copy of node {node}, which runs at {address}', fix: 'make it a node of its own: `weft down --purge`, then `weft join` with a new token; if it is to take the place of the other host, stop that one for good and start weftd here again' },
  'WEFT-NODE-TWICE': { cause: 'two hosts are node {node}: the cluster knows the one at {address}, and another is at {other}', fix: 'make the copy a node of its own: there `weft down --purge`, then `weft join` with a new token' },
  'WEFT-NODE-REMOVED': { cause: 'this node was taken out of the cluster', fix: 'join it again: `weft down --purge`, then `weft join` with a new token' },
  'WEFT-NODE-ALIVE': { cause: 'node {node} is alive', fix: 'run `weft down` there first, or repeat with --force' },
  'WEFT-GOSSIP-BIND': { cause: 'gossip cannot listen on {address}: {detail}', fix: 'stop the other program (`ss -lntup` shows it), or give every node another gossipPort' },
  'WEFT-DISCOVERY-MULTICAST': { cause: 'other nodes cannot be looked for on the local network by {address}: {detail}', fix: 'see that the advertised address is this host\'s, or switch it off with `weft up --no-multicast`' },
  'WEFT-DISCOVERY-DHT': { cause: 'other nodes cannot be looked for in a hash table: {detail}', fix: 'install hyperdht beside weftd and give it a free UDP port, or switch it off with `weft up --no-dht`' },
  'WEFT-ADVERTISE-AMBIGUOUS': { cause: 'this host has several addresses that other nodes could use: {candidates}', fix: 'choose one with --advertise' },
  'WEFT-ADVERTISE-UNKNOWN': { cause: '{value} is neither an address nor an interface of this host', fix: 'give one of {candidates}' },
  'WEFT-BACKUP': { cause: 'the backup {path} cannot be used: {detail}', fix: 'choose another file; `weft backup FILE` makes one' },
  'WEFT-UNDERLAY-FAMILY': { cause: 'node {node} is reached at {address} and this one at {own}: there are no tunnels between IPv4 and IPv6', fix: 'give all hosts addresses of one family with --advertise' },
  'WEFT-AGENT-DOWN': { cause: 'weftd does not answer at {socket}', fix: 'start it with `weft up`' },
  'WEFT-CONFIG': { cause: 'the configuration {path} cannot be used: {detail}', fix: 'correct it or write it anew with `weft up`' },
} as const satisfies Record<string, { cause: string; fix: string }>;

export type ErrorCode = keyof typeof ERRORS;

type Parameters<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}` ? Name | Parameters<Rest> : never;
/** The parameters that the texts of a code mention; all are required. */
export type ErrorParameters<Code extends ErrorCode> =
  Record<Parameters<(typeof ERRORS)[Code]['cause']> | Parameters<(typeof ERRORS)[Code]['fix']>, string | number>;

/** An error with a code of the registry. `message` is `CODE: cause; fix`, ready to be shown. */
export class WeftError extends Error {
  readonly code: ErrorCode;
  readonly parameters: Readonly<Record<string, string | number>>;

  constructor(code: ErrorCode, parameters: Record<string, string | number>, options?: ErrorOptions) {
    const { cause, fix } = ERRORS[code];
    super(`${code}: ${fill(cause, parameters)}; ${fill(fix, parameters)}`, options);
    this.name = 'WeftError';
    this.code = code;
    this.parameters = parameters;
  }
}

const fill = (text: string, parameters: Record<string, string | number>): string =>
  text.replace(/\{(\w+)\}/g, (_, name: string) => String(parameters[name] ?? ''));

export const weftError = <Code extends ErrorCode>(
  code: Code, parameters: ErrorParameters<Code>, options?: ErrorOptions,
): WeftError => new WeftError(code, parameters, options);

/** The text of anything that was thrown. */
export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));
