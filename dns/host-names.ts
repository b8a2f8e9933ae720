/**
 * Names for programs of the host: `<name>.<network>.weft`, of the networks that this node has records of. Everything else is refused: nobody
 * is to take this for a resolver of the world's names.
 */
import type { Random } from '../base/random.ts';
import type { NameSource } from './dns.ts';
import { addressesInTurn, servicesInTurn, type BeginAt } from './in-turn.ts';
import { FAMILIES_ASKED, findName, findServices, ofFamilies, type JoinedNetwork } from './lookup.ts';
import { RCODE, TYPE } from './message.ts';
import type { Outcome } from './outcomes.ts';
import type { Query } from './query.ts';
import { NOTHING_KNOWN } from './remembered.ts';
import { createResponder, type Chain } from './responder.ts';
import { encodeResponse, type Answer } from './response.ts';

/** No name of the outside's, nor one that is set aside for something else. */
export const HOST_DOMAIN = 'weft';
const SUFFIX = `.${HOST_DOMAIN}`;

export interface HostNamesOptions {
  names: NameSource;
  /** All there are, as they are now. */
  networks: () => readonly { id: string; name: string }[];
  /** Seconds. */
  ttl: number;
  random: Random;
  count: (outcome: Outcome) => void;
}

export function createHostNames({ names, networks, ttl, random, count }: HostNamesOptions): Chain {
  const beginAt: BeginAt = (of) => (of > 1 ? random.int(of) : 0);
  const joined = (): JoinedNetwork[] => networks().filter(({ name }) => name !== '').map(({ id, name }) => ({ id, name, suffix: name.toLowerCase() }));

  /** An rcode where there is nothing to say. `inner`: without the domain. */
  function within(inner: string, type: number): Answer | number {
    const all = joined();
    if (all.some(({ suffix }) => suffix === inner)) return { kind: 'nodata' };
    // Networks may have dots in their names: the longest counts.
    const [network] = all.filter(({ suffix }) => inner.endsWith(`.${suffix}`)).toSorted((a, b) => b.suffix.length - a.suffix.length);
    if (!network) return RCODE.NXDOMAIN;
    const name = inner.slice(0, -network.suffix.length - 1);
    const targets = type === TYPE.SRV ? findServices(names, [network], name) : undefined;
    if (targets && targets.length > 0) return servicesInTurn(targets.map((each) => ({ ...each, target: each.target + SUFFIX })), beginAt, ttl);
    const known = names.addresses(network.id, name);
    if (!known) return targets ? { kind: 'nodata' } : RCODE.NXDOMAIN;
    const found = ofFamilies(known, FAMILIES_ASKED[type] ?? []);
    return found.ips.length > 0 ? addressesInTurn(found, beginAt, ttl) : { kind: 'nodata' };
  }

  function answerTo({ name, type }: Query): Answer | number {
    if (name === undefined) return RCODE.REFUSED;
    if (name === HOST_DOMAIN) return { kind: 'nodata' };
    if (name.endsWith(SUFFIX)) return within(name.slice(0, -SUFFIX.length), type);
    const behind = type === TYPE.PTR ? findName(names, joined(), name) : undefined;
    return behind === undefined ? RCODE.REFUSED : { kind: 'pointer', name: behind + SUFFIX, ttl };
  }

  return Object.assign(createResponder(count, (query, limit, message, _, out) => {
    const answer = answerTo(query);
    if (typeof answer === 'number') {
      count('denied');
      return encodeResponse(out, message, query, answer, undefined, limit);
    }
    count(answer.kind === 'nodata' ? 'nodata' : 'answered');
    return encodeResponse(out, message, query, RCODE.NOERROR, answer, limit);
  }), { known: () => NOTHING_KNOWN });
}
