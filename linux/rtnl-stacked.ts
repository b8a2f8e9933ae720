/** Links that stand on another one, macvlan and 802.1Q (linux/if_link.h): what they say of themselves, encoded and decoded. */
import { parseAttributes, readU32, u16, u32 } from './attributes.ts';
import type { Link, MacvlanMode, StackedLinkSpec } from './types.ts';

const IFLA_MACVLAN_MODE = 1;
const IFLA_VLAN_ID = 1;
/** enum macvlan_mode */
const MODES: Record<MacvlanMode, number> = { private: 1, vepa: 2, bridge: 4, passthru: 8 };

export const encodeStacked = (spec: StackedLinkSpec): Buffer =>
  (spec.kind === 'macvlan' ? u32(IFLA_MACVLAN_MODE, MODES[spec.mode]) : u16(IFLA_VLAN_ID, spec.vlan));

/** A mode that nobody here makes (source) is left out. */
export function decodeStacked(kind: string | undefined, data: Buffer): Pick<Link, 'macvlan' | 'vlan'> {
  if (kind === 'macvlan') {
    const number = readU32(parseAttributes(data).get(IFLA_MACVLAN_MODE));
    const mode = (Object.keys(MODES) as MacvlanMode[]).find((each) => MODES[each] === number);
    return mode ? { macvlan: mode } : {};
  }
  const vlan = kind === 'vlan' ? parseAttributes(data).get(IFLA_VLAN_ID)?.readUInt16LE(0) : undefined;
  return vlan === undefined ? {} : { vlan };
}
