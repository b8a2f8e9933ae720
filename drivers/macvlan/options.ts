/** What users ask of a macvlan network: Docker's own option names, Weft's short ones, and what Docker's driver has not. */
import type { Network } from '../../cnm/model.ts';
import type { MacvlanMode } from '../../linux/types.ts';
import { choice, hasParent, noHostAccess, stackedOptions, type StackedOptions } from '../stacked/options.ts';

const MODE_OPTIONS = ['macvlan_mode', 'weft.macvlan_mode'] as const;
const MODES = ['bridge', 'private', 'vepa', 'passthru'] as const satisfies MacvlanMode[];

export interface MacvlanOptions extends StackedOptions { mode: MacvlanMode }

/** Throws WEFT-OPTION-UNKNOWN, WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
export function macvlanOptions(network: Network, node: string): MacvlanOptions {
  const common = stackedOptions(network, node, MODE_OPTIONS);
  const mode = choice<MacvlanMode>(network.options, MODE_OPTIONS, MODES);
  if (common.hostAccess && (mode !== 'bridge' || !hasParent(network))) {
    throw noHostAccess(network, 'it needs a parent and the mode bridge: in the others the kernel keeps the host away as well');
  }
  return { ...common, mode };
}
