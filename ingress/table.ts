/** The port table in the kernel, kept equal to what is wanted: by small changes, or made anew when it is not what we left. */
import type { Nft, NftJson } from '../linux/types.ts';
import type { Protocol } from '../cnm/model.ts';
import { dropScript, serviceScript, slotsScript, tableScript, withdrawScript } from './rules.ts';
import { assignSlots } from './slots.ts';

export interface WantedPort { protocol: Protocol; port: number; backends: string[] }
interface Programmed { protocol: Protocol; port: number; slots: string[] }

export interface TableChange {
  /** Ports that led nowhere before. */
  opened: { protocol: Protocol; port: number }[];
  /** Backends that are not asked any more ('ip:port'). */
  gone: { protocol: Protocol; backend: string }[];
}

export interface PortTable {
  apply(wanted: ReadonlyMap<string, WantedPort>): TableChange;
  repair(): { what: string; error?: string }[];
}

export function createPortTable(nft: Nft): PortTable {
  let programmed: Map<string, Programmed> | undefined;

  /** One transaction: there is no moment without rules, and open connections do not notice. */
  const rebuildScript = (ports: Iterable<Programmed>): string =>
    `${dropScript}${tableScript}${[...ports].map(({ protocol, port, slots }) => serviceScript(protocol, port, slots)).join('')}`;

  return {
    apply: (wanted) => {
      const before = programmed ?? new Map<string, Programmed>();
      const after = new Map([...wanted].map(([key, { protocol, port, backends }]): [string, Programmed] =>
        [key, { protocol, port, slots: assignSlots(before.get(key)?.slots ?? [], backends) }]));
      const changes = [
        ...[...before].filter(([key]) => !after.has(key)).map(([, { protocol, port }]) => withdrawScript(protocol, port)),
        ...[...after].map(([key, { protocol, port, slots }]) => {
          const old = before.get(key)?.slots;
          return old ? slotsScript(protocol, port, old, slots) : serviceScript(protocol, port, slots);
        }),
      ].join('');
      // Before the first pass the table may be an earlier weftd's, with these ports: it is replaced as a whole.
      const isEarlier = programmed === undefined && nft.query('list table inet weft-ports') !== undefined;
      const script = programmed ? changes : rebuildScript(after.values());
      try {
        if (script !== '') nft.run(script);
      } catch {
        nft.run(rebuildScript(after.values()));
      }
      programmed = after;
      return {
        opened: isEarlier ? [] : [...after].filter(([key]) => !before.has(key)).map(([, { protocol, port }]) => ({ protocol, port })),
        gone: [...before].flatMap(([key, { protocol, slots }]) => {
          const now = new Set(after.get(key)?.slots);
          return [...new Set(slots)].filter((backend) => !now.has(backend)).map((backend) => ({ protocol, backend }));
        }),
      };
    },
    repair: () => {
      if (!programmed || isAsProgrammed(nft.query('list table inet weft-ports'), programmed)) return [];
      nft.run(rebuildScript(programmed.values()));
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
  if (rules !== 2 + programmed.size || maps.size !== 1 + programmed.size || maps.get('ports')!.length !== programmed.size) return false;
  return [...programmed.values()].every(({ protocol, port, slots }) => {
    const elements = maps.get(`slots-${protocol}-${port}`);
    if (elements?.length !== slots.length) return false;
    return elements.every((element) => {
      const [key, value] = element as [number, { concat: [string, number] }];
      return slots[key] === value.concat.join(':');
    });
  });
}
