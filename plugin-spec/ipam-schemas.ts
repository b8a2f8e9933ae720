/** Requests of the IpamDriver calls: Docker's JSON in, the types of types.ts out. */
import * as v from 'valibot';
import type * as t from './types.ts';
import { Flag, StringMap, text } from './wire.ts';

type Schema<Output> = v.GenericSchema<unknown, Output>;

const PoolId = v.pipe(v.string(), v.minLength(1), v.maxLength(1024));

/** Pool and range are left as they are: the driver knows the better error for what is not a subnet. */
export const RequestPool: Schema<t.RequestPoolRequest> = v.pipe(
  v.object({ AddressSpace: text(256), Pool: text(64), SubPool: text(64), Options: StringMap, V6: Flag }),
  v.transform(({ AddressSpace, Pool, SubPool, Options, V6 }) => ({ addressSpace: AddressSpace, pool: Pool, subPool: SubPool, options: Options, v6: V6 })),
);

export const ReleasePool: Schema<t.ReleasePoolRequest> = v.pipe(
  v.object({ PoolID: PoolId }),
  v.transform(({ PoolID }) => ({ poolId: PoolID })),
);

export const RequestAddress: Schema<t.RequestAddressRequest> = v.pipe(
  v.object({ PoolID: PoolId, Address: text(64), Options: StringMap }),
  v.transform(({ PoolID, Address, Options }) => ({ poolId: PoolID, address: Address, options: Options })),
);

export const ReleaseAddress: Schema<t.ReleaseAddressRequest> = v.pipe(
  v.object({ PoolID: PoolId, Address: text(64) }),
  v.transform(({ PoolID, Address }) => ({ poolId: PoolID, address: Address })),
);
