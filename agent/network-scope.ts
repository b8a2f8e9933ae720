/** Where a network of each driver exists. */
import type { Network } from '../cnm/model.ts';
import { NAME_OPTION } from '../drivers/bridge/options.ts';
import { hasParent } from '../drivers/macvlan/options.ts';

const SCOPES = new Map<string, (options: Network['options']) => Network['scope']>([
  ['overlay', () => 'cluster'],
  ['bridge', () => 'node'],
  // Without a parent it reaches nobody outside its host.
  ['macvlan', (options) => (hasParent({ options }) ? 'cluster' : 'node')],
]);

export const DRIVERS: readonly string[] = [...SCOPES.keys()];

/** undefined where there is no such driver. */
export const scopeOf = (driver: string, options: Network['options']): Network['scope'] | undefined => SCOPES.get(driver)?.(options);

/** Whether its subnet is one that hosts have as well: it is the LAN's. */
export const sharesSubnet = ({ driver, scope }: Pick<Network, 'driver' | 'scope'>): boolean => driver === 'macvlan' && scope === 'cluster';

/** What a bridge network's bridge is called by whoever made the network. */
export const bridgeNameOf = ({ driver, options }: Pick<Network, 'driver' | 'options'>): string | undefined => (driver === 'bridge' ? options[NAME_OPTION] : undefined);
