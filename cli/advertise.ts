/** Which underlay address other nodes shall send to. */
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { weftError } from '../base/errors.ts';
import { bytesToIp, formatPrefix4, ipToBytes, overlaps4, parsePrefix4 } from '../base/ip.ts';
import { familyOf, type Family } from '../base/prefix.ts';

export interface HostAddress { device: string; address: string }

/** Links that carry containers or tunnels, not the underlay. */
const INTERNAL = /^(lo|docker\d*|docker_gwbridge|br-|veth|weft-|wbr-|wc-|we-|w[im]h-|virbr|cni|flannel|tun|tap)/;

/** Link-local ones are the same on every link. */
export const hostAddresses = (present = networkInterfaces()): HostAddress[] =>
  Object.entries(present).flatMap(([device, addresses]) =>
    INTERNAL.test(device) ? [] : (addresses ?? []).filter(({ address }) => !/^fe[89ab]/i.test(address)).map(({ address }) => ({ device, address })));

/**
 * `wanted` is an address, an interface or absent. Of addresses of both families those of `family` are left; where none is given, the
 * IPv4 ones. Throws WEFT-ADVERTISE-AMBIGUOUS when several are left to choose from (they are listed), WEFT-ADVERTISE-UNKNOWN for one
 * that this host has not.
 */
export function chooseAdvertised(wanted: string | undefined, present: readonly HostAddress[], family?: Family): string {
  const candidates = present.map(({ device, address }) => `${address} (${device})`).join(', ') || 'none';
  const isAddress = wanted !== undefined && isIP(wanted) !== 0;
  const named = wanted === undefined ? present : present.filter(({ device, address }) => (isAddress ? address === bytesToIp(ipToBytes(wanted)) : device === wanted));
  const preferred = named.filter(({ address }) => familyOf(address) === (family ?? 4));
  const matching = preferred.length > 0 ? preferred : named;
  if (matching.length === 0) throw weftError('WEFT-ADVERTISE-UNKNOWN', { value: wanted ?? 'nothing', candidates });
  if (matching.length > 1) throw weftError('WEFT-ADVERTISE-AMBIGUOUS', { candidates });
  return matching[0]!.address;
}

/**
 * The nodes' own addresses must be nobody else's on this host. What it reaches by other routes, and what comes later, weftd
 * reports. Throws WEFT-NODE-PREFIX; text that is no prefix is the configuration's affair.
 */
export function checkNodePrefix(prefix: string, present = networkInterfaces()): void {
  const wanted = parsePrefix4(prefix);
  for (const [device, addresses = []] of Object.entries(present)) {
    if (device.startsWith('weft-')) continue;
    for (const { cidr } of addresses) {
      const other = cidr === null ? undefined : parsePrefix4(cidr);
      if (wanted && other && overlaps4(wanted, other)) throw weftError('WEFT-NODE-PREFIX', { prefix, other: `${formatPrefix4(other)} (${device})` });
    }
  }
}
