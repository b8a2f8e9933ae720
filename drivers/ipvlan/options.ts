/** What users ask of an ipvlan network: Docker's own option names, and Weft's short ones. */
import type { Network } from '../../cnm/model.ts';
import type { IpvlanFlag, IpvlanMode } from '../../linux/types.ts';
import { choice, hasParent, noHostAccess, stackedOptions, type StackedOptions } from '../stacked/options.ts';

const MODE_OPTIONS = ['ipvlan_mode', 'weft.ipvlan_mode'] as const;
const MODES = ['l2', 'l3', 'l3s'] as const satisfies IpvlanMode[];
const FLAG_OPTIONS = ['ipvlan_flag', 'weft.ipvlan_flag'] as const;
const FLAGS = ['bridge', 'private', 'vepa'] as const satisfies IpvlanFlag[];

export interface IpvlanOptions extends StackedOptions { mode: IpvlanMode; flag: IpvlanFlag }

/** Throws WEFT-OPTION-UNKNOWN, WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
export function ipvlanOptions(network: Network, node: string): IpvlanOptions {
  const { options } = network;
  const common = stackedOptions(network, node, [...MODE_OPTIONS, ...FLAG_OPTIONS]);
  const mode = choice<IpvlanMode>(options, MODE_OPTIONS, MODES);
  const flag = choice<IpvlanFlag>(options, FLAG_OPTIONS, FLAGS);
  if (common.hostAccess && (mode !== 'l2' || flag !== 'bridge' || !hasParent(network))) {
    throw noHostAccess(network, 'it needs a parent, the mode l2 and the flag bridge: otherwise containers have no way to the host by a link of its own');
  }
  return { ...common, mode, flag };
}
