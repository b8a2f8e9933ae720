/** Routing rules: encoded and decoded (linux/fib_rules.h). */
import type { Family } from '../base/prefix.ts';
import { optional, parseAttributes, readText, readU32, text, u32 } from './attributes.ts';
import { AF_INET, AF_INET6 } from './rtnl-links.ts';
import type { Rule } from './types.ts';

export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;

const HEADER = 12;
const FRA = { IIFNAME: 3, PRIORITY: 6, FWMARK: 10, TABLE: 15, FWMASK: 16 } as const;
const FR_ACT_TO_TBL = 1;
const ALL_BITS = 0xffffffff;

/** struct fib_rule_hdr; the table travels as an attribute, since the header has one byte for it. */
function header(family: Family, action: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes[0] = family === 4 ? AF_INET : AF_INET6;
  bytes[7] = action;
  return bytes;
}

export const ruleQuery = (family: Family): Buffer => header(family, 0);

export const encodeRule = ({ family = 4, priority, table, iif, fwmark, fwmask = ALL_BITS }: Rule): Buffer => Buffer.concat([
  header(family, FR_ACT_TO_TBL),
  u32(FRA.PRIORITY, priority), u32(FRA.TABLE, table),
  ...optional(iif, (value) => text(FRA.IIFNAME, value)),
  ...optional(fwmark, (value) => Buffer.concat([u32(FRA.FWMARK, value), u32(FRA.FWMASK, fwmask)])),
]);

export function decodeRule(body: Buffer): Rule {
  const attributes = parseAttributes(body.subarray(HEADER));
  const iif = readText(attributes.get(FRA.IIFNAME));
  const fwmark = readU32(attributes.get(FRA.FWMARK));
  return {
    ...(body[0] === AF_INET6 && { family: 6 as const }),
    priority: readU32(attributes.get(FRA.PRIORITY)) ?? 0,
    table: readU32(attributes.get(FRA.TABLE)) ?? body.readUInt8(4),
    ...(iif !== undefined && { iif }),
    ...(fwmark !== undefined && { fwmark, fwmask: readU32(attributes.get(FRA.FWMASK)) ?? ALL_BITS }),
  };
}
