/**
 * Pieces that the request schemas are made of. Docker sends null where its Go code has an empty map or slice, and
 * leaves out what is empty elsewhere: both give the neutral value. Lengths are bounded; unknown keys are ignored.
 */
import { isIP } from 'node:net';
import * as v from 'valibot';

const MAX_ITEMS = 16_384;

/** A string of at most `max` characters; null and absent are ''. */
export const text = (max: number) => v.pipe(v.nullish(v.string(), ''), v.maxLength(max));

/** 64 hex digits, or 25 base-36 digits from swarm; it becomes part of link names and keys, so nothing else passes. */
export const Id = v.pipe(v.string(), v.regex(/^[0-9A-Za-z]{1,64}$/, 'Invalid id: Expected 1 to 64 letters and digits'));

export const Flag = v.nullish(v.boolean(), false);

export const StringMap = v.nullish(v.record(v.pipe(v.string(), v.maxLength(1024)), v.pipe(v.string(), v.maxLength(65_536))), {});

/** null and absent are []. */
export const list = <S extends v.GenericSchema>(item: S) => v.pipe(v.nullish(v.array(item), []), v.maxLength(MAX_ITEMS));

/** 'address/length' of either family. */
export function isCidr(value: string): boolean {
  const [address = '', length = '', ...rest] = value.split('/');
  const family = isIP(address);
  return rest.length === 0 && family !== 0 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
}

const NOT_CIDR = 'Invalid address: Expected address/length';
export const Cidr = v.pipe(v.string(), v.maxLength(64), v.check(isCidr, NOT_CIDR));

/** 'address/length'; '', null and absent are ''. */
export const MaybeCidr = v.pipe(text(64), v.check((value) => value === '' || isCidr(value), NOT_CIDR));

/** Plain address, or ''. */
export const MaybeIp = v.pipe(text(64), v.check((value) => value === '' || isIP(value) !== 0, 'Invalid address'));

/** '02:42:…' in lower case, or ''. */
export const MaybeMac = v.pipe(
  text(17),
  v.check((value) => value === '' || /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value), 'Invalid MAC address'),
  v.transform((value) => value.toLowerCase()),
);

/** An object without the members that are ''. */
export function present<T extends Record<string, string>>(members: T): Partial<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== '')) as Partial<T>;
}
