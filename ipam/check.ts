/**
 * Store, nodes and kernel compared. Each finding has an id that says exactly what was found, so that a repair can be
 * held to the report it was asked for: what has changed since has another id.
 */
import { HOST_HOLDER } from './ipam.ts';
import type { Survey, SurveyedBlock, SurveyedPool } from './upkeep.ts';

export interface CheckedEndpoint { id: string; /** For people. */ name: string; node: { id: string; name: string }; address: string }

export interface CheckFacts {
  /** Wall clock, ms. */
  now: number;
  node: { id: string; name: string };
  survey: Survey;
  /** That the store lists. */
  nodes: readonly { id: string; name: string }[];
  /** Subnet → name of the network of Weft that uses it. */
  networks: ReadonlyMap<string, string>;
  /** Subnet → name of a Docker network of another driver that uses Weft's addresses: its containers are not known here. */
  foreign: ReadonlyMap<string, string>;
  /** On all nodes, as far as this one knows. */
  endpoints: readonly CheckedEndpoint[];
  /** Endpoint of this node that has joined → the addresses that the kernel has in its sandbox. */
  inKernel: ReadonlyMap<string, readonly string[]>;
}

/** What a repair does; without one, people have to decide. */
export type Repair =
  | { do: 'release'; subnet: string; address: string; since: number }
  | { do: 'claim'; subnet: string; address: string; endpointId: string }
  | { do: 'compare'; subnet: string }
  | { do: 'remove-block'; block: SurveyedBlock }
  | { do: 'remove-pool'; pool: SurveyedPool };

export interface Finding {
  id: string;
  kind: 'leak' | 'unclaimed' | 'duplicate' | 'elsewhere' | 'block' | 'orphan' | 'kernel';
  text: string;
  /** What --fix does, or what to do by hand. */
  fix: string;
  repair?: Repair;
}

/** What is under way is no finding: an address is given before its endpoint is made, a pool before its network. */
const SETTLED_MS = 60_000;

export function check(facts: CheckFacts): Finding[] {
  const { survey, node } = facts;
  const poolOf = (address: string): SurveyedPool | undefined => survey.pools.find(({ blockKeyOf }) => blockKeyOf(address) !== undefined);
  const known = facts.endpoints.flatMap((endpoint) => {
    const pool = poolOf(endpoint.address);
    return pool ? [{ endpoint, pool }] : [];
  });
  const own = known.filter(({ endpoint }) => endpoint.node.id === node.id);
  return [
    ...survey.pools.flatMap((pool) => [...leaks(facts, pool), ...blockFindings(pool), ...orphans(facts, pool)]),
    ...survey.stray.map((block): Finding => ({
      id: `orphan ${block.key} ${block.revision}`, kind: 'orphan', text: `a block of node ${block.claim.name} belongs to no pool (${block.key})`,
      fix: 'it is removed', repair: { do: 'remove-block', block },
    })),
    ...own.flatMap(({ endpoint, pool }) => unclaimed(endpoint, pool)),
    ...duplicates(known),
    ...known.filter(({ endpoint }) => endpoint.node.id !== node.id).flatMap(({ endpoint, pool }) => elsewhere(endpoint, pool)),
    ...own.flatMap(({ endpoint, pool }) => kernel(facts, endpoint, pool)),
  ];
}

function leaks({ now, networks, endpoints, node }: CheckFacts, { subnet, holdings }: SurveyedPool): Finding[] {
  // Of what else uses the pool, the endpoints are not known here.
  if (!networks.has(subnet)) return [];
  const used = new Set(endpoints.filter((endpoint) => endpoint.node.id === node.id).map(({ address }) => address));
  return [...holdings].filter(([address, { holder, since }]) => !used.has(address) && holder !== HOST_HOLDER && now - since >= SETTLED_MS).map(([address, { holder, since }]) => ({
    id: `leak ${subnet} ${address} ${holder} ${since}`, kind: 'leak', text: `${address} is given out here since ${new Date(since).toISOString()}, and nobody has it`,
    fix: 'it is released', repair: { do: 'release', subnet, address, since },
  }));
}

function blockFindings({ subnet, notOurs, unknown }: SurveyedPool): Finding[] {
  return [
    ...notOurs.map((text): Finding => ({
      id: `block ${subnet} ${text} not-ours`, kind: 'block', text: `this node hands out ${text} of ${subnet}, which the store does not have as its own`,
      fix: 'it is claimed again, or given up if another node has it', repair: { do: 'compare', subnet },
    })),
    ...unknown.map((text): Finding => ({
      id: `block ${subnet} ${text} unknown`, kind: 'block', text: `the store has ${text} of ${subnet} for this node, which does not use it`,
      fix: 'it is taken into use', repair: { do: 'compare', subnet },
    })),
  ];
}

function orphans({ now, node, nodes, networks, foreign }: CheckFacts, pool: SurveyedPool): Finding[] {
  const { subnet, id, by, made } = pool;
  const found: Finding[] = [];
  // A network of one node alone is known there only, and its pool by its maker.
  if (by === node.name && !networks.has(subnet) && !foreign.has(subnet) && now - made >= SETTLED_MS) {
    found.push({ id: `orphan ${subnet} ${id}`, kind: 'orphan', text: `pool ${subnet} belongs to no network`, fix: 'it is released', repair: { do: 'remove-pool', pool } });
  }
  for (const block of pool.blocks) {
    if (!block.current) {
      found.push({
        id: `orphan ${block.key} ${block.revision}`, kind: 'orphan', text: `${block.low}-${block.high} of node ${block.claim.name} is left from an earlier pool ${subnet}`,
        fix: 'it is removed', repair: { do: 'remove-block', block },
      });
    }
  }
  const gone = Map.groupBy(pool.blocks.filter(({ current, claim }) => current && !nodes.some((each) => each.id === claim.node)), ({ claim }) => claim.node);
  for (const [nodeId, blocks] of gone) {
    found.push({
      id: `orphan ${subnet} ${id} ${nodeId}`, kind: 'orphan',
      text: `${blocks.length} blocks of ${subnet} belong to node ${blocks[0]!.claim.name} (${nodeId}), which is no member any more`, fix: `weft ipam reclaim ${nodeId}`,
    });
  }
  return found;
}

function unclaimed({ id, name, address }: CheckedEndpoint, { subnet, holdings }: SurveyedPool): Finding[] {
  if (holdings.has(address)) return [];
  return [{
    id: `unclaimed ${subnet} ${address} ${id}`, kind: 'unclaimed', text: `${name} uses ${address} here, which is not given out to it`,
    fix: 'it is claimed for it', repair: { do: 'claim', subnet, address, endpointId: id },
  }];
}

function duplicates(known: readonly { endpoint: CheckedEndpoint; pool: SurveyedPool }[]): Finding[] {
  const byAddress = Map.groupBy(known, ({ endpoint }) => endpoint.address);
  return [...byAddress].flatMap(([address, holders]): Finding[] => {
    const names = holders.map(({ endpoint }) => `${endpoint.name} on ${endpoint.node.name}`);
    const reservedFor = holders[0]!.pool.reserved[address];
    if (reservedFor !== undefined) names.push(`the network itself (${reservedFor})`);
    if (names.length < 2) return [];
    return [{
      id: `duplicate ${address} ${holders.map(({ endpoint }) => endpoint.id).sort().join(' ')}`, kind: 'duplicate', text: `${address} is used by ${names.join(' and by ')}`,
      fix: 'restart all of them but one: they get other addresses',
    }];
  });
}

function elsewhere({ id, name, node, address }: CheckedEndpoint, { subnet, blocks, blockKeyOf }: SurveyedPool): Finding[] {
  const key = blockKeyOf(address);
  const owner = blocks.find((block) => block.key === key && block.current)?.claim;
  if (owner?.node === node.id) return [];
  return [{
    id: `elsewhere ${subnet} ${address} ${id}`, kind: 'elsewhere',
    text: `${name} uses ${address} on ${node.name}, from a block of ${owner ? `node ${owner.name}` : 'nobody'}, who may give it out again`, fix: `run weft ipam check --fix on ${node.name}, or restart ${name}`,
  }];
}

function kernel({ inKernel }: CheckFacts, { id, name, address }: CheckedEndpoint, { subnet, blockKeyOf }: SurveyedPool): Finding[] {
  const present = inKernel.get(id);
  if (!present) return [];
  const others = present.filter((each) => each !== address && blockKeyOf(each) !== undefined);
  return [
    ...(present.includes(address) ? [] : [{
      id: `kernel ${subnet} ${address} ${id} missing`, kind: 'kernel' as const, text: `${name} has been given ${address}, and the kernel does not have it in its namespace`, fix: `restart ${name}`,
    }]),
    ...others.map((other) => ({
      id: `kernel ${subnet} ${other} ${id} extra`, kind: 'kernel' as const, text: `${name} has ${other} of ${subnet} in its namespace, which was not given to it`,
      fix: `remove it there, before another container gets it`,
    })),
  ];
}
