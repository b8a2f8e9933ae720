/** What users ask of a bridge network: Docker's own options of its bridge driver, with Docker's meanings. */
import { weftError } from '../../base/errors.ts';
import { familyOf, isHostAddress, parsePrefix, type Family } from '../../base/prefix.ts';
import type { Network, Subnet } from '../../cnm/model.ts';
import { ANTISPOOF_OPTION, MTU_OPTIONS, PREFIX_OPTION, RATE_OPTIONS, allowsAnySource, checkOptions, interfacePrefix, wantedMtu, wantedRates } from '../options.ts';

export const NAME_OPTION = 'com.docker.network.bridge.name';
const ICC = 'com.docker.network.bridge.enable_icc';
const MASQUERADE = 'com.docker.network.bridge.enable_ip_masquerade';
const BINDING = 'com.docker.network.bridge.host_binding_ipv4';
const INHIBIT = 'com.docker.network.bridge.inhibit_ipv4';
const DEFAULT_BRIDGE = 'com.docker.network.bridge.default_bridge';
const TRUSTED = 'com.docker.network.bridge.trusted_host_interfaces';
const MODE = { 4: 'com.docker.network.bridge.gateway_mode_ipv4', 6: 'com.docker.network.bridge.gateway_mode_ipv6' } as const;
const SOURCE = { 4: 'com.docker.network.host_ipv4', 6: 'com.docker.network.host_ipv6' } as const;
/** Names of --aux-address. */
const DEFAULT_GATEWAY = { 4: 'DefaultGatewayIPv4', 6: 'DefaultGatewayIPv6' } as const;

const OPTIONS = [...MTU_OPTIONS, PREFIX_OPTION, ANTISPOOF_OPTION, ...RATE_OPTIONS, NAME_OPTION, ICC, MASQUERADE, BINDING, INHIBIT, DEFAULT_BRIDGE, TRUSTED, ...Object.values(MODE), ...Object.values(SOURCE)];

/**
 * nat: what leaves is masqueraded, what is published is translated, nothing else comes in. nat-unprotected: the same, but
 * whoever routes to the containers reaches all of their ports. routed: nothing is translated, published ports are open.
 * isolated: the host has no address on the network.
 */
const GATEWAY_MODES = ['nat', 'nat-unprotected', 'routed', 'isolated'] as const;
export type GatewayMode = (typeof GATEWAY_MODES)[number];

const LARGEST_MTU = 65535;
/** Docker's. */
const DEFAULT_MTU = 1500;
/** IFNAMSIZ less its zero; what nft takes for a name without further ado. */
const LINK_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;
/** Links of Weft's, and what no bridge may be called. */
const NO_BRIDGE = /^(lo|all|default|weft-.*|uplink|w(b|br|c|e|l|m|mh|mp|u|v)-.*)$/;

export interface BridgeSettings {
  /** The user's name for the bridge: then it lives in the host's namespace, whether it is there already or not. */
  name: string | undefined;
  mtu: number;
  /** Whether containers reach each other. */
  icc: boolean;
  masquerade: boolean;
  /** Where ports are published that name no address; '' is every one. */
  binding: string;
  /** The host has no IPv4 address on the network. */
  inhibitIpv4: boolean;
  mode: Record<Family, GatewayMode>;
  /** What traffic leaves with; undefined: the address of the link that it leaves by. */
  source: Record<Family, string | undefined>;
  /** Links of the host from which published ports are reached at the containers' own addresses. */
  trusted: string[];
}

/** Throws WEFT-OPTION-UNKNOWN, WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
export function validateBridge(network: Network): void {
  checkOptions(network, OPTIONS);
  interfacePrefix(network);
  allowsAnySource(network);
  wantedRates(network);
  const settings = settingsOf(network);
  const { options, internal } = network;
  const reject = (option: string, hint: string): never => {
    throw weftError('WEFT-OPTION-VALUE', { option, value: options[option] ?? '', hint });
  };
  if (settings.name !== undefined && (!LINK_NAME.test(settings.name) || NO_BRIDGE.test(settings.name))) reject(NAME_OPTION, 'give up to 15 letters, digits, "_", "." and "-" that are no link of Weft\'s');
  for (const family of [4, 6] as const) {
    if (settings.mode[family] === 'isolated' && !internal) reject(MODE[family], 'create the network with --internal, too');
    if (settings.source[family] !== undefined && familyOf(settings.source[family]) !== family) reject(SOURCE[family], `give an IPv${family} address of this host`);
  }
  if (settings.binding !== '' && familyOf(settings.binding) !== 4) reject(BINDING, 'give an IPv4 address of this host');
  if (!settings.trusted.every((each) => LINK_NAME.test(each))) reject(TRUSTED, 'give names of interfaces with ":" between them');
  if (bool(options, DEFAULT_BRIDGE, false)) reject(DEFAULT_BRIDGE, 'leave it out: that is docker0, and Docker\'s');
  for (const subnet of network.subnets) checkDefaultGateway(network, subnet);
}

function checkDefaultGateway({ internal }: Network, { subnet, aux }: Subnet): void {
  const option = DEFAULT_GATEWAY[familyOf(subnet)];
  const value = aux?.[option];
  if (value === undefined) return;
  if (internal) throw weftError('WEFT-OPTION-VALUE', { option, value, hint: 'leave it out: an internal network has no gateway' });
  if (!isHostAddress(parsePrefix(subnet)!, value)) throw weftError('WEFT-OPTION-VALUE', { option, value, hint: `give an address of ${subnet}` });
}

export function settingsOf(network: Network): BridgeSettings {
  const { options } = network;
  const binding = options[BINDING] ?? '';
  return {
    name: options[NAME_OPTION],
    mtu: wantedMtu(network, LARGEST_MTU, 0) ?? DEFAULT_MTU,
    icc: bool(options, ICC, true),
    masquerade: bool(options, MASQUERADE, true),
    binding: binding === '0.0.0.0' ? '' : binding,
    inhibitIpv4: bool(options, INHIBIT, false),
    mode: { 4: modeOf(options, MODE[4]), 6: modeOf(options, MODE[6]) },
    source: { 4: options[SOURCE[4]], 6: options[SOURCE[6]] },
    trusted: (options[TRUSTED] ?? '').split(':').filter((each) => each !== ''),
  };
}

/** What containers are given as their gateway: not the host, where the user says so. */
export function withDefaultGateways(network: Network): Network {
  return { ...network, subnets: network.subnets.map((each) => ({ ...each, ...defaultGateway(each) })) };
}

function defaultGateway({ subnet, aux }: Subnet): { gateway?: string } {
  const gateway = aux?.[DEFAULT_GATEWAY[familyOf(subnet)]];
  return gateway === undefined ? {} : { gateway };
}

function modeOf(options: Record<string, string>, option: string): GatewayMode {
  const value = options[option] ?? '';
  if (value === '') return 'nat';
  const mode = GATEWAY_MODES.find((each) => each === value);
  if (!mode) throw weftError('WEFT-OPTION-VALUE', { option, value, hint: `give one of ${GATEWAY_MODES.join(', ')}` });
  return mode;
}

/** Written as Go's strconv.ParseBool reads it, which Docker uses. */
function bool(options: Record<string, string>, option: string, otherwise: boolean): boolean {
  const value = options[option];
  if (value === undefined) return otherwise;
  if (/^(1|t|T|true|True|TRUE)$/.test(value)) return true;
  if (/^(0|f|F|false|False|FALSE)$/.test(value)) return false;
  throw weftError('WEFT-OPTION-VALUE', { option, value, hint: 'give true or false' });
}
