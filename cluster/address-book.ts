/** Where members were last, on this node's disk: a node that restarts finds the cluster again although no seed lives any more. */
import type { Gossip } from '../gossip/gossip.ts';
import type { Address } from '../gossip/messages.ts';
import type { LocalStore } from '../store/store.ts';
import type { Discovery } from './discovery.ts';

const PREFIX = 'gossip/address/';

/** Kept up to date from now on. Those that left are forgotten; those that failed may return. */
export function keepAddressBook(gossip: Gossip, local: LocalStore): Pick<Discovery, 'addresses'> {
  gossip.watch(({ type, member: { name, state, address } }) => {
    if (name === gossip.name) return;
    const text = `${address.host} ${address.port}`;
    if (type === 'join' && local.get(PREFIX + name) !== text) local.put(PREFIX + name, text);
    if (type === 'leave' && state === 'left') local.delete(PREFIX + name);
  });
  return {
    addresses: async () => local.list(PREFIX).map(({ value }): Address => {
      const [host = '', port] = value.split(' ');
      return { host, port: Number(port) };
    }),
  };
}
