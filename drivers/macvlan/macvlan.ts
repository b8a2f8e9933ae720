/** The macvlan driver: containers as machines of the LAN, each with a MAC of its own on an interface of the host. */
import { isWireless } from '../../linux/wireless.ts';
import { MACVLAN_NAMES } from '../names.ts';
import { createStackedDriver, type StackedDriver, type StackedDriverOptions, type StackedKind } from '../stacked/stacked.ts';
import { macvlanOptions, type MacvlanOptions } from './options.ts';

const aloneBecause = (detail: string) => ({
  detail: `in the mode passthru a container has it to itself, and ${detail}`, hint: 'use another parent, or the mode bridge for all of them',
});

const MACVLAN: StackedKind<MacvlanOptions> = {
  name: 'macvlan',
  names: MACVLAN_NAMES,
  lacking: { option: 'MACVLAN', hint: 'use weft-ipvlan or weft-overlay' },
  hasOwnMac: true,
  options: macvlanOptions,
  link: ({ mode }) => ({ kind: 'macvlan', mode }),
  isRouted: () => false,
  // A second network could not have what passthru takes for itself.
  conflict: (one, other, name) => (one.mode === 'passthru' || other.mode === 'passthru' ? aloneBecause(`network ${name} stands on it`) : undefined),
  // An access point takes frames of the MAC that has joined it, and drops the others (IEEE 802.11, three addresses a frame).
  unfit: (host, link) => (isWireless(host, link) ? { detail: `${link} is wireless, and an access point takes no MAC but its own`, hint: 'use weft-ipvlan, which needs no other' } : undefined),
  refusal: ({ code }) => (code === 'EINVAL' ? aloneBecause('somebody stands on it already') : undefined),
};

export const createMacvlanDriver = (options: StackedDriverOptions): StackedDriver => createStackedDriver(MACVLAN, options);
