/** What a user asks of a macvlan network: Docker's own option names, Weft's short ones, and what Docker's driver has not. */
import { weftError } from '../../base/errors.ts';
import type { Network } from '../../cnm/model.ts';
import type { MacvlanMode } from '../../linux/types.ts';
import { MTU_OPTIONS, PREFIX_OPTION, checkOptions, interfacePrefix, wantedMtu } from '../options.ts';

const PARENT_OPTIONS = ['parent', 'weft.parent'] as const;
/** Followed by a node's name: the parent there. */
const NODE_PARENT = 'weft.parent.';
const MODE_OPTIONS = ['macvlan_mode', 'weft.macvlan_mode'] as const;
const HOST_ACCESS_OPTION = 'weft.host_access';
const PROBE_OPTION = 'weft.probe_ms';
const KNOWN = [...PARENT_OPTIONS, ...MODE_OPTIONS, HOST_ACCESS_OPTION, PROBE_OPTION, ...MTU_OPTIONS, PREFIX_OPTION];

const MODES: readonly MacvlanMode[] = ['bridge', 'private', 'vepa', 'passthru'];
const BOOLEANS: Record<string, boolean> = { true: true, '1': true, false: false, '0': false };
const LARGEST_MTU = 65535;
/** Machines on the wire answer within a millisecond; one that sleeps on a wireless link within a beacon or two (about 100 ms each). */
const DEFAULT_PROBE_MS = 200;
/** As long as RFC 5227 §1.1 takes at most: a random second, then three probes and their answers. */
const LONGEST_PROBE_MS = 7_000;

export interface MacvlanOptions {
  /** Name of the interface on this node; undefined: the network has none, and reaches nobody outside it. */
  parent: string | undefined;
  mode: MacvlanMode;
  hostAccess: boolean;
  /** How long an address is asked for on the LAN before a container gets it; 0: not at all. */
  probeMs: number;
  mtu: number | undefined;
}

/** Throws WEFT-OPTION-UNKNOWN, WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
export function macvlanOptions(network: Network, node: string): MacvlanOptions {
  const { options } = network;
  checkOptions(network, [...KNOWN, ...Object.keys(options).filter((option) => option.startsWith(NODE_PARENT))]);
  interfacePrefix(network);
  const mode = modeOf(options);
  const hostAccess = hostAccessOf(options);
  if (hostAccess && (mode !== 'bridge' || !hasParent(network))) {
    throw weftError('WEFT-OPTION-VALUE', { option: HOST_ACCESS_OPTION, value: options[HOST_ACCESS_OPTION]!, hint: 'it needs a parent and the mode bridge: in the others the kernel keeps the host away as well' });
  }
  return { parent: parentOn(network, node), mode, hostAccess, probeMs: probeMsOf(options), mtu: wantedMtu(network, LARGEST_MTU, 0) };
}

/** As it is said, whatever else may be wrong with the options. */
export const parentOn = ({ options }: Pick<Network, 'options'>, node: string): string | undefined =>
  (options[NODE_PARENT + node] ?? first(options, PARENT_OPTIONS)?.value) || undefined;

/** Whether it stands on an interface anywhere: one that does not is of one host alone. */
export const hasParent = ({ options }: Pick<Network, 'options'>): boolean =>
  Object.entries(options).some(([option, value]) => value !== '' && (PARENT_OPTIONS.some((each) => each === option) || option.startsWith(NODE_PARENT)));

function first(options: Network['options'], names: readonly string[]): { option: string; value: string } | undefined {
  const option = names.find((each) => options[each] !== undefined);
  return option === undefined ? undefined : { option, value: options[option]! };
}

function modeOf(options: Network['options']): MacvlanMode {
  const asked = first(options, MODE_OPTIONS);
  const mode = MODES.find((each) => each === (asked?.value || 'bridge'));
  if (mode) return mode;
  throw weftError('WEFT-OPTION-VALUE', { ...asked!, hint: `give one of ${MODES.join(', ')}` });
}

function hostAccessOf(options: Network['options']): boolean {
  const value = options[HOST_ACCESS_OPTION] ?? 'false';
  const known = BOOLEANS[value];
  if (known === undefined) throw weftError('WEFT-OPTION-VALUE', { option: HOST_ACCESS_OPTION, value, hint: 'give true or false' });
  return known;
}

function probeMsOf(options: Network['options']): number {
  const value = options[PROBE_OPTION] ?? String(DEFAULT_PROBE_MS);
  if (/^\d{1,5}$/.test(value) && Number(value) <= LONGEST_PROBE_MS) return Number(value);
  throw weftError('WEFT-OPTION-VALUE', { option: PROBE_OPTION, value, hint: `give a number of milliseconds up to ${LONGEST_PROBE_MS}; 0 switches the probe off` });
}
