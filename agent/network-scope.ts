/** Where a network of each driver exists. */
import type { Network } from '../cnm/model.ts';
import { hasParent } from '../drivers/macvlan/options.ts';

const SCOPES: Record<string, (options: Network['options']) => Network['scope']> = {
  overlay: () => 'cluster',
  bridge: () => 'node',
  // Without a parent it reaches nobody outside its host.
  macvlan: (options) => (hasParent({ options }) ? 'cluster' : 'node'),
};

export const DRIVERS: readonly string[] = Object.keys(SCOPES);

/** undefined where there is no such driver. */
export const scopeOf = (driver: string, options: Network['options']): Network['scope'] | undefined => SCOPES[driver]?.(options);

/** Whether its subnet is one that hosts have as well: it is the LAN's. */
export const sharesSubnet = ({ driver, scope }: Pick<Network, 'driver' | 'scope'>): boolean => driver === 'macvlan' && scope === 'cluster';
