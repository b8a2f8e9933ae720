/** Links that stand on another one, macvlan, ipvlan and 802.1Q (linux/if_link.h): what they say of themselves, encoded and decoded. */
import { parseAttributes, readU16, readU32, u16, u32 } from './attributes.ts';
import type { IpvlanFlag, IpvlanMode, Link, MacvlanMode, StackedLinkSpec } from './types.ts';

const IFLA_MACVLAN_MODE = 1;
const IFLA_VLAN_ID = 1;
const IFLA_IPVLAN = { MODE: 1, FLAGS: 2 } as const;
/** enum macvlan_mode */
const MACVLAN_MODES: Record<MacvlanMode, number> = { private: 1, vepa: 2, bridge: 4, passthru: 8 };
/** enum ipvlan_mode */
const IPVLAN_MODES: Record<IpvlanMode, number> = { l2: 0, l3: 1, l3s: 2 };
/** IPVLAN_F_PRIVATE and IPVLAN_F_VEPA; without either its siblings are bridged. */
const IPVLAN_FLAGS: Record<IpvlanFlag, number> = { bridge: 0, private: 1, vepa: 2 };

export function encodeStacked(spec: StackedLinkSpec): Buffer {
  if (spec.kind === 'macvlan') return u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[spec.mode]);
  if (spec.kind === 'ipvlan') return Buffer.concat([u16(IFLA_IPVLAN.MODE, IPVLAN_MODES[spec.mode]), u16(IFLA_IPVLAN.FLAGS, IPVLAN_FLAGS[spec.flag])]);
  return u16(IFLA_VLAN_ID, spec.vlan);
}

/** A mode that nobody here makes (macvlan's source) is left out. */
export function decodeStacked(kind: string | undefined, data: Buffer): Pick<Link, 'macvlan' | 'ipvlan' | 'vlan'> {
  // A bridge's data would be fifty attributes for nothing.
  if (kind !== 'macvlan' && kind !== 'ipvlan' && kind !== 'vlan') return {};
  const attributes = parseAttributes(data);
  if (kind === 'macvlan') {
    const mode = nameOf(MACVLAN_MODES, readU32(attributes.get(IFLA_MACVLAN_MODE)));
    return mode ? { macvlan: mode } : {};
  }
  if (kind === 'ipvlan') {
    const mode = nameOf(IPVLAN_MODES, readU16(attributes.get(IFLA_IPVLAN.MODE)));
    const flag = nameOf(IPVLAN_FLAGS, readU16(attributes.get(IFLA_IPVLAN.FLAGS)));
    return mode && flag ? { ipvlan: { mode, flag } } : {};
  }
  const vlan = readU16(attributes.get(IFLA_VLAN_ID));
  return vlan === undefined ? {} : { vlan };
}

const nameOf = <Name extends string>(numbers: Record<Name, number>, number: number | undefined): Name | undefined =>
  (Object.keys(numbers) as Name[]).find((each) => numbers[each] === number);
