/**
 * The ipvlan driver: containers with addresses of their own behind the one MAC of an interface of the host's, for wires that
 * take no other (wireless ones, clouds, switch ports). In l2 they answer on the LAN as machines of it do; in l3 and l3s the
 * host's routes lead their packets, and the LAN's routers have to know the way to them.
 */
import { IPVLAN_NAMES } from '../names.ts';
import { createStackedDriver, type StackedDriver, type StackedDriverOptions, type StackedKind } from '../stacked/stacked.ts';
import { ipvlanOptions, type IpvlanOptions } from './options.ts';

const IPVLAN: StackedKind<IpvlanOptions> = {
  name: 'ipvlan',
  names: IPVLAN_NAMES,
  lacking: { option: 'IPVLAN', hint: 'use weft-macvlan or weft-overlay' },
  hasOwnMac: false,
  options: ipvlanOptions,
  link: ({ mode, flag }) => ({ kind: 'ipvlan', mode, flag }),
  isRouted: ({ mode }) => mode !== 'l2',
  // The kernel would change the others without a word.
  conflict: (one, other, name) => (one.mode === other.mode && one.flag === other.flag ? undefined : {
    detail: `all ipvlan links on an interface have one mode and flag, and those of network ${name} are ${other.mode} and ${other.flag}`,
    hint: 'give the same ones, another parent, or a VLAN of it',
  }),
  unfit: () => undefined,
  refusal: () => undefined,
};

export const createIpvlanDriver = (options: StackedDriverOptions): StackedDriver => createStackedDriver(IPVLAN, options);
