/** Driver options: known names only, with the nearest one named when a user misspells it. */
import { weftError } from '../base/errors.ts';
import type { Endpoint, Network } from '../cnm/model.ts';
import { hasIpv6 } from './ipv6.ts';

export const MTU_OPTIONS = ['com.docker.network.driver.mtu', 'weft.mtu'] as const;
export const PREFIX_OPTION = 'com.docker.network.container_iface_prefix';
export const VNI_OPTION = 'weft.vni';
export const ANTISPOOF_OPTION = 'weft.antispoof';
export const ENCRYPTION_OPTIONS = ['encrypted', 'weft.encrypted'] as const;
export const RATE_OPTIONS = ['weft.rate.in', 'weft.rate.out'] as const;
/** The resolver's, of networks of any driver. */
export const UPSTREAMS_OPTION = 'weft.dns.upstreams';
export const CA_OPTION = 'weft.dns.ca';
/** The least that a link of a family carries (RFC 791, RFC 8200 §5). */
export const MIN_MTU = { 4: 576, 6: 1280 } as const;
const FIRST_VNI = 0x800001;
const LAST_VNI = 0xfffffe;

/** `own` are those of the network's driver. Throws WEFT-OPTION-UNKNOWN. */
export function checkOptions(network: Network, own: readonly string[]): void {
  const known = [...own, UPSTREAMS_OPTION, CA_OPTION];
  for (const option of Object.keys(network.options)) {
    if (known.includes(option)) continue;
    const nearest = known.reduce((a, b) => (distance(option, b) < distance(option, a) ? b : a));
    throw weftError('WEFT-OPTION-UNKNOWN', { driver: network.driver, option, hint: `the nearest known one is ${nearest}` });
  }
}

/** The MTU the user asks for; undefined when they leave it to us. Throws WEFT-OPTION-VALUE, WEFT-MTU-TOO-LARGE. */
export function wantedMtu(network: Network, underlay: number, overhead: number): number | undefined {
  const option = MTU_OPTIONS.find((each) => network.options[each] !== undefined);
  if (option === undefined) return undefined;
  const text = network.options[option]!;
  const mtu = Number(text);
  const least = MIN_MTU[hasIpv6(network) ? 6 : 4];
  if (!/^\d+$/.test(text) || mtu < least) throw weftError('WEFT-OPTION-VALUE', { option, value: text, hint: `give a number of bytes from ${least} to ${underlay - overhead}` });
  if (mtu > underlay - overhead) throw weftError('WEFT-MTU-TOO-LARGE', { mtu, underlay, overhead, largest: underlay - overhead });
  return mtu;
}

/** The VNI that the user asks for; undefined when they leave it to us. Throws WEFT-OPTION-VALUE. */
export function wantedVni(network: Network): number | undefined {
  const value = network.options[VNI_OPTION];
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value) && Number(value) >= FIRST_VNI && Number(value) <= LAST_VNI) return Number(value);
  throw weftError('WEFT-OPTION-VALUE', { option: VNI_OPTION, value, hint: `give a number from ${FIRST_VNI} to ${LAST_VNI}, or leave it to Weft` });
}

/** Whether endpoints may send from any IP address. Throws WEFT-OPTION-VALUE. */
export function allowsAnySource(network: Network): boolean {
  const value = network.options[ANTISPOOF_OPTION] ?? 'true';
  if (value !== 'true' && value !== 'false') throw weftError('WEFT-OPTION-VALUE', { option: ANTISPOOF_OPTION, value, hint: 'give true or false' });
  return value === 'false';
}

/** Docker's own option says it by being there. Throws WEFT-OPTION-VALUE. */
export function isEncrypted(network: Network): boolean {
  const option = ENCRYPTION_OPTIONS.find((each) => network.options[each] !== undefined);
  const value = option === undefined ? 'false' : network.options[option]!;
  if (!['', 'true', '1', 'false', '0'].includes(value)) throw weftError('WEFT-OPTION-VALUE', { option: option!, value, hint: 'give true or false' });
  return value !== 'false' && value !== '0';
}

const UNITS: Record<string, number> = { '': 1, bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 };
const LEAST_RATE = 8000;

/** What an endpoint may receive and send, bits per second; its own option counts before its network's. Throws WEFT-OPTION-VALUE. */
export function wantedRates(network: Network, endpoint?: Pick<Endpoint, 'options'>): { in?: number; out?: number } {
  const rate = (option: string): number | undefined => {
    const value = endpoint?.options[option] ?? network.options[option];
    if (value === undefined) return undefined;
    const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([a-z]*)$/.exec(value.toLowerCase()) ?? [];
    const bits = Number(number) * (UNITS[unit] ?? NaN);
    if (number === '' || !(bits >= LEAST_RATE)) throw weftError('WEFT-OPTION-VALUE', { option, value, hint: 'give bits per second as 10mbit, 500kbit, 1.5gbit; 8kbit is the least' });
    return bits;
  };
  const [incoming, outgoing] = RATE_OPTIONS.map(rate);
  return { ...(incoming !== undefined && { in: incoming }), ...(outgoing !== undefined && { out: outgoing }) };
}

/** Docker's own default is eth. Throws WEFT-OPTION-VALUE. */
export function interfacePrefix(network: Network): string {
  const prefix = network.options[PREFIX_OPTION] ?? 'eth';
  if (!/^[A-Za-z][A-Za-z0-9_-]{0,10}$/.test(prefix)) throw weftError('WEFT-OPTION-VALUE', { option: PREFIX_OPTION, value: prefix, hint: 'give up to 11 letters, digits, "_" and "-"' });
  return prefix;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
