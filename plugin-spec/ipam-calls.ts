/** The IpamDriver calls on their handlers, with the answers in Docker's field names. */
import { call, plainCall, type Call } from './call.ts';
import * as schemas from './ipam-schemas.ts';
import type { IpamDriverHandlers } from './types.ts';

export function ipamCalls(handlers: IpamDriverHandlers): [string, Call][] {
  return [
    ['IpamDriver.GetCapabilities', plainCall(async () => {
      const { requiresMacAddress, requiresRequestReplay } = await handlers.capabilities();
      return { RequiresMACAddress: requiresMacAddress, RequiresRequestReplay: requiresRequestReplay };
    })],
    ['IpamDriver.GetDefaultAddressSpaces', plainCall(async () => {
      const { local, global } = await handlers.defaultAddressSpaces();
      return { LocalDefaultAddressSpace: local, GlobalDefaultAddressSpace: global };
    })],
    call('IpamDriver.RequestPool', schemas.RequestPool, async (request) => {
      const { poolId, pool, data } = await handlers.requestPool(request);
      return { PoolID: poolId, Pool: pool, Data: data ?? {} };
    }),
    call('IpamDriver.ReleasePool', schemas.ReleasePool, async (request) => {
      await handlers.releasePool(request);
      return {};
    }),
    call('IpamDriver.RequestAddress', schemas.RequestAddress, async (request) => {
      const { address, data } = await handlers.requestAddress(request);
      return { Address: address, Data: data ?? {} };
    }),
    call('IpamDriver.ReleaseAddress', schemas.ReleaseAddress, async (request) => {
      await handlers.releaseAddress(request);
      return {};
    }),
  ];
}
