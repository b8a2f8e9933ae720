/** Where other nodes may be: several sources that each know some addresses, taken together. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Address } from '../gossip/messages.ts';

export interface Discovery {
  /** What it knows now. May take as long as asking the network takes; rejects when it cannot ask. */
  addresses(): Promise<readonly Address[]>;
  close(): Promise<void>;
}

/** All that any of them knows, each address once. One that fails is left out. */
export function allAddresses(sources: Record<string, Pick<Discovery, 'addresses'>>, log: Logger): () => Promise<readonly Address[]> {
  const complaints = new Map<string, string>();
  return async () => {
    const found = await Promise.all(Object.entries(sources).map(async ([name, source]) => {
      try {
        const addresses = await source.addresses();
        complaints.delete(name);
        return addresses;
      } catch (error) {
        const detail = errorText(error);
        if (complaints.get(name) !== detail) log.warn({ source: name, detail }, 'a way of finding other nodes does not work');
        complaints.set(name, detail);
        return [];
      }
    }));
    return [...new Map(found.flat().map((address) => [`${address.host}:${address.port}`, address])).values()];
  };
}
