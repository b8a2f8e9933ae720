/** What users ask of any network that stands on an interface of the host's. */
import { weftError } from '../../base/errors.ts';
import type { Network } from '../../cnm/model.ts';
import { MTU_OPTIONS, PREFIX_OPTION, checkOptions, interfacePrefix, wantedMtu } from '../options.ts';

const PARENT_OPTIONS = ['parent', 'weft.parent'] as const;
/** Followed by a node's name: the parent there. */
const NODE_PARENT = 'weft.parent.';
const HOST_ACCESS_OPTION = 'weft.host_access';
const PROBE_OPTION = 'weft.probe_ms';
const KNOWN = [...PARENT_OPTIONS, HOST_ACCESS_OPTION, PROBE_OPTION, ...MTU_OPTIONS, PREFIX_OPTION];

const BOOLEANS: Record<string, boolean> = { true: true, '1': true, false: false, '0': false };
const LARGEST_MTU = 65535;
/** Machines on the wire answer within a millisecond; one that sleeps on a wireless link within a beacon or two (about 100 ms each). */
const DEFAULT_PROBE_MS = 200;
/** As long as RFC 5227 §1.1 takes at most: a random second, then three probes and their answers. */
const LONGEST_PROBE_MS = 7_000;

export interface StackedOptions {
  /** Name of the interface on this node; undefined: the network has none, and reaches nobody outside it. */
  parent: string | undefined;
  hostAccess: boolean;
  /** How long an address is asked for on the LAN before a container gets it; 0: not at all. */
  probeMs: number;
  mtu: number | undefined;
}

/** `own` are the options of the network's driver alone. Throws WEFT-OPTION-UNKNOWN, WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
export function stackedOptions(network: Network, node: string, own: readonly string[]): StackedOptions {
  const { options } = network;
  checkOptions(network, [...own, ...KNOWN, ...Object.keys(options).filter((option) => option.startsWith(NODE_PARENT))]);
  interfacePrefix(network);
  return { parent: parentOn(network, node), hostAccess: hostAccessOf(options), probeMs: probeMsOf(options), mtu: wantedMtu(network, LARGEST_MTU, 0) };
}

/** Of an option with several names, the first one counts; '' is not said. Throws WEFT-OPTION-VALUE. */
export function choice<Value extends string>(options: Network['options'], names: readonly string[], values: readonly [Value, ...Value[]]): Value {
  const asked = first(options, names);
  const value = values.find((each) => each === (asked?.value || values[0]));
  if (value !== undefined) return value;
  throw weftError('WEFT-OPTION-VALUE', { ...asked!, hint: `give one of ${values.join(', ')}` });
}

/** For a network whose mode keeps the host away. */
export const noHostAccess = ({ options }: Network, hint: string): Error => weftError('WEFT-OPTION-VALUE', { option: HOST_ACCESS_OPTION, value: options[HOST_ACCESS_OPTION]!, hint });

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
