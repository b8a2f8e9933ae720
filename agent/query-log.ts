/** `weft dns log`: writes queries of containers into weftd's log, for as long as it is switched on. */
import type { Logger } from '../base/log.ts';
import type { Resolver } from '../dns/dns.ts';
import { rcodeText, typeText } from '../dns/record-text.ts';
import type { QueryLogAnswer } from './api.ts';

/** Of sandboxes, by path; those of long ago are asked for again. */
const MOST_NAMES = 1024;

export interface QueryLog {
  state(): QueryLogAnswer;
  /** Of one container, or of all; off for all ends it for each. */
  set(on: boolean, container?: string): QueryLogAnswer;
}

/** `nameAt`: whose sandbox is at a path, where that is known yet. */
export function createQueryLog({ resolver, nameAt, log: parent }: { resolver: Pick<Resolver, 'listen'>; nameAt(path: string): string | undefined; log: Logger }): QueryLog {
  const containers = new Set<string>();
  const names = new Map<string, string>();
  // Who switches it on wants to see it, whatever else is logged.
  const log = parent.child({}, { level: 'info' });
  let all = false;

  function containerAt(path: string): string | undefined {
    const known = names.get(path) ?? nameAt(path);
    if (known !== undefined && !names.has(path)) {
      if (names.size >= MOST_NAMES) names.clear();
      names.set(path, known);
    }
    return known;
  }

  const state = (): QueryLogAnswer => ({ all, containers: [...containers].sort() });

  return {
    state,
    set: (on, container) => {
      if (container === undefined) all = on;
      else if (on) containers.add(container);
      else containers.delete(container);
      if (!on && container === undefined) containers.clear();
      names.clear();
      resolver.listen(!all && containers.size === 0 ? undefined : {
        wants: (path) => all || containers.has(containerAt(path) ?? ''),
        heard: (path, { name, type, transport, from, rcode, ms }) =>
          log.info({ container: containerAt(path) ?? path, name, type: typeText(type), transport, rcode: rcodeText(rcode), from: from ?? 'nobody', ms: Number(ms.toFixed(3)) }, 'query'),
      });
      return state();
    },
  };
}
