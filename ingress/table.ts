/** The port table in the kernel, kept equal to what is wanted: by small changes, or made anew when it is not what we left. */
import { hostPort } from '../base/ip.ts';
import { createRuleCheck } from '../linux/nft-generation.ts';
import type { Nft, NftJson } from '../linux/types.ts';
import { BARE, chainOf, dropScript, nameOf, type PortAt, serviceScript, slotsScript, tableScript, withdrawScript } from './rules.ts';
import { assignSlots } from './slots.ts';

export interface WantedPort extends PortAt { backends: string[] }
interface Programmed extends PortAt { slots: string[] }

export interface PortTable {
  /** Returns the ports that led nowhere before. */
  apply(wanted: ReadonlyMap<string, WantedPort>): PortAt[];
  repair(): { what: string; error?: string }[];
}

export function createPortTable(nft: Nft): PortTable {
  let programmed: Map<string, Programmed> | undefined;
  const check = createRuleCheck(nft);

  /** One transaction: there is no moment without rules, and open connections do not notice. */
  const rebuildScript = (ports: Iterable<Programmed>): string =>
    `${dropScript}${tableScript}${[...ports].map((port) => serviceScript(port, port.slots)).join('')}`;

  return {
    apply: (wanted) => {
      const before = programmed ?? new Map<string, Programmed>();
      const after = new Map([...wanted].map(([key, { backends, ...at }]): [string, Programmed] =>
        [key, { ...at, slots: assignSlots(before.get(key)?.slots ?? [], backends) }]));
      const changes = [
        ...[...before].filter(([key]) => !after.has(key)).map(([, port]) => withdrawScript(port)),
        ...[...after].map(([key, port]) => {
          const old = before.get(key)?.slots;
          return old ? slotsScript(port, old, port.slots) : serviceScript(port, port.slots);
        }),
      ].join('');
      // Before the first pass the table may be an earlier weftd's, with some of these ports: it is replaced as a whole.
      const earlier = programmed ? [] : nft.query('list table inet weft-ports') ?? [];
      const ledSomewhere = new Set(earlier.flatMap(({ chain }) => (chain as { name: string } | undefined)?.name ?? []));
      const script = programmed ? changes : rebuildScript(after.values());
      try {
        if (script !== '') nft.run(script);
      } catch {
        nft.run(rebuildScript(after.values()));
      }
      programmed = after;
      return [...after].flatMap(([key, { family, protocol, ip, port }]) => {
        const at = { family, protocol, ip, port };
        return before.has(key) || ledSomewhere.has(chainOf(at)) ? [] : [at];
      });
    },
    repair: () => {
      const left = programmed;
      if (!left || check(() => isAsProgrammed(nft.query('list table inet weft-ports'), left))) return [];
      nft.run(rebuildScript(left.values()));
      return [{ what: 'the table of published ports was not as left; made anew' }];
    },
  };
}

/** libnftables-json(5): every object of the table, maps with their elements as [key, value] pairs. */
function isAsProgrammed(objects: NftJson[] | undefined, programmed: ReadonlyMap<string, Programmed>): boolean {
  if (!objects) return false;
  const maps = new Map<string, unknown[]>();
  let rules = 0;
  for (const object of objects) {
    const map = object['map'] as { name: string; elem?: unknown[] } | undefined;
    if (map) maps.set(map.name, map.elem ?? []);
    if (object['rule']) rules++;
  }
  const entries = BARE.maps.reduce((sum, map) => sum + (maps.get(map)?.length ?? 0), 0);
  if (rules !== BARE.rules + programmed.size || maps.size !== BARE.maps.length + programmed.size || entries !== programmed.size) return false;
  return [...programmed.values()].every(({ slots, ...at }) => {
    const elements = maps.get(`slots-${nameOf(at)}`);
    if (elements?.length !== slots.length) return false;
    return elements.every((element) => {
      const [key, value] = element as [number, { concat: [string, number] }];
      return slots[key] === hostPort(...value.concat);
    });
  });
}
