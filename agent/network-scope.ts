/** Where a network of each driver exists. */
import type { Network } from '../cnm/model.ts';
import { NAME_OPTION } from '../drivers/bridge/options.ts';
import { hasParent } from '../drivers/stacked/options.ts';

/** Those whose networks stand on interfaces of the hosts. */
const STACKED: readonly string[] = ['macvlan', 'ipvlan'];

/** Without a parent it reaches nobody outside its host. */
const stackedScope = (options: Network['options']): Network['scope'] => (hasParent({ options }) ? 'cluster' : 'node');

const SCOPES = new Map<string, (options: Network['options']) => Network['scope']>([
  ['overlay', () => 'cluster'],
  ['bridge', () => 'node'],
  ...STACKED.map((driver) => [driver, stackedScope] as const),
]);

export const DRIVERS: readonly string[] = [...SCOPES.keys()];

/** undefined where there is no such driver. */
export const scopeOf = (driver: string, options: Network['options']): Network['scope'] | undefined => SCOPES.get(driver)?.(options);

/** Whether its containers are reached at their own addresses only. */
export const isOnLan = ({ driver }: Pick<Network, 'driver'>): boolean => STACKED.includes(driver);

/** Whether its subnet is one that hosts have as well: it is the LAN's. */
export const sharesSubnet = ({ driver, scope }: Pick<Network, 'driver' | 'scope'>): boolean => isOnLan({ driver }) && scope === 'cluster';

/** What a bridge network's bridge is called by whoever made the network. */
export const bridgeNameOf = ({ driver, options }: Pick<Network, 'driver' | 'options'>): string | undefined => (driver === 'bridge' ? options[NAME_OPTION] : undefined);
