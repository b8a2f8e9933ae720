/** Docker's plugin calls on a host that takes part no more: everything may go, nothing new is made. */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { IpamDriverHandlers, NetworkDriverHandlers } from '../plugin-spec/types.ts';
import type { Config } from './config.ts';
import { servePlugins } from './docker/plugins.ts';

export interface DepartingOptions {
  config: Config;
  /** Why nothing new is made. */
  reason: Error;
  /** Listening sockets from the service manager, by path. */
  inherited: ReadonlyMap<string, number>;
  clock: Clock;
  log: Logger;
}

export function serveDeparting({ config, reason, inherited, clock, log }: DepartingOptions): Promise<{ close(): Promise<void> }> {
  const refuse = (): Promise<never> => Promise.reject(reason);
  const network: NetworkDriverHandlers = {
    capabilities: () => ({ scope: 'local', connectivityScope: 'local', gwAllocChecker: false }),
    createNetwork: refuse,
    deleteNetwork: async () => {},
    createEndpoint: refuse,
    deleteEndpoint: async () => {},
    endpointOperInfo: async () => ({}),
    join: refuse,
    leave: async () => {},
    programExternalConnectivity: async () => {},
    revokeExternalConnectivity: async () => {},
  };
  const ipam: IpamDriverHandlers = {
    capabilities: () => ({ requiresMacAddress: false, requiresRequestReplay: false }),
    defaultAddressSpaces: () => ({ local: 'weft', global: 'weft' }),
    requestPool: refuse,
    releasePool: async () => {},
    requestAddress: refuse,
    releaseAddress: async () => {},
  };
  return servePlugins({ network: () => network, ipam, config, inherited, clock, log });
}
