/** What `weft ipam` asks for: who has which addresses, what is wrong with that, and what becomes of a dead node's. */
import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import { withoutLength } from '../base/ip.ts';
import type { Logger } from '../base/log.ts';
import { addressesOf, type SoftState } from '../cluster/state.ts';
import type { Endpoints } from '../cnm/controller.ts';
import type { Endpoint, Network } from '../cnm/model.ts';
import { check, type CheckedEndpoint, type Finding } from '../ipam/check.ts';
import { conflicts } from '../ipam/conflicts.ts';
import type { StartedAddressManager } from '../ipam/manager.ts';
import type { Occupied } from '../ipam/subnets.ts';
import type { SurveyedPool } from '../ipam/upkeep.ts';
import { isNetns, openNetns } from '../linux/netns.ts';
import { withRtnl } from '../linux/rtnl.ts';
import type { Store } from '../store/store.ts';
import type { DockerNetwork } from './docker/client.ts';
import { sharesSubnet } from './network-scope.ts';
import type { NetworkRegistry } from './networks.ts';
import { addressesIn } from './publisher.ts';

/** One node's share of a pool. */
export interface PoolShare { id: string; name: string; blocks: number; addresses: number; /** Of other nodes: as far as this one knows. */ used: number; resting?: number; free?: number }
export interface PoolAnswer { subnet: string; range?: string; network?: string; shares: PoolShare[]; /** Addresses in blocks that nobody has. */ unclaimed: number }
export interface FindingAnswer { id: string; kind: string; text: string; fix: string; /** Whether --fix mends it. */ fixable: boolean }
export interface CheckAnswer { node: string; pools: number; findings: FindingAnswer[] }
export interface FixAnswer { results: { id: string; outcome: string }[] }
export interface ReclaimPlan { id: string; name: string; state: string; blocks: { subnet: string; network?: string; blocks: number; addresses: number }[] }
export interface ReclaimAnswer { id: string; name: string; blocks: number }

export interface IpamCalls {
  ipamPools(): Promise<PoolAnswer[]>;
  ipamCheck(): Promise<CheckAnswer>;
  /** Mends what the report has and a new check finds again; nothing else. */
  ipamFix(ids: readonly string[]): Promise<FixAnswer>;
  /** By id or name. Throws WEFT-RECLAIM-UNKNOWN, WEFT-RECLAIM-ALIVE. */
  planReclaim(node: string): Promise<ReclaimPlan>;
  reclaim(node: string): Promise<ReclaimAnswer>;
}

export interface IpamApi {
  readonly calls: IpamCalls;
  /** For status. */
  problems(): string[];
  /** Docker answers, for the first time or again: addresses of starts that it, or weftd, was killed in go free soon. */
  dockerAnswers(): void;
  close(): void;
}

export interface IpamApiOptions {
  node: { id: string; name: string };
  store: Store;
  state: SoftState;
  registry: NetworkRegistry;
  endpoints: Endpoints;
  addresses: StartedAddressManager;
  defaultPools: readonly string[];
  occupied(): readonly Occupied[];
  /** Docker's networks of other drivers than ours; undefined while Docker does not answer. */
  foreignNetworks(): readonly DockerNetwork[] | undefined;
  nameOf(endpointId: string): string | undefined;
  nodeName(id: string): string;
  clock: Clock;
  log: Logger;
}

const TICK_MS = 15_000;
/** By then a Docker that starts has released what it knows of, and the starts that it was killed in are old enough to be findings. */
const FORGOTTEN_MS = 75_000;
/** Forwarding entries of a failed node stay 30 s, and not every node finds it failed at the same time. */
const SILENT_MS = 60_000;

const usesPool = (network: Network): boolean => network.scope === 'cluster' || network.ipam === 'weft';

export function createIpamApi(options: IpamApiOptions): IpamApi {
  const { node, store, state, registry, endpoints, addresses, clock } = options;
  const { upkeep } = addresses;

  const subnetsOf = (list: readonly Network[]): Map<string, string> => new Map(list.filter(usesPool)
    .flatMap((network) => network.subnets.map(({ subnet }) => [subnet, network.name || network.id.slice(0, 12)] as const)));

  const networks = (): Map<string, string> => subnetsOf(registry.list());

  // On a LAN's subnet hosts and network meet on purpose.
  const problems = (): string[] => conflicts(subnetsOf(registry.list().filter((network) => !sharesSubnet(network))), options.defaultPools, options.occupied());
  const stateOf = (id: string): string => state.members().find((member) => member.id === id)?.state ?? 'not a member';

  // --- what changes with time

  const started = clock.now();
  const isThere = (id: string): boolean => ['alive', 'suspect'].includes(stateOf(id));
  /** Since when each node is known not to answer: later than the truth, by a tick at most. */
  const silentSince = new Map<string, number>();
  let answering: string[] = [];
  let reported: readonly string[] = [];
  let changed = true;
  registry.onChange(() => { changed = true; });
  const stopWatch = state.watch('node', () => { changed = true; });
  let timer: unknown;

  function look(): void {
    for (const id of answering) if (!isThere(id)) silentSince.set(id, clock.now());
    answering = state.members().map(({ id }) => id).filter(isThere);
    for (const id of answering) silentSince.delete(id);
    // With many networks and nodes it is much to compare, and mostly for nothing.
    if (!changed) return;
    changed = false;
    const now = problems();
    for (const problem of now) if (!reported.includes(problem)) options.log.warn({ problem }, 'addresses are in each other\'s way');
    reported = now;
  }
  /** When to look for addresses that a killed Docker had asked for and never heard of again. */
  let forgottenDue: number | undefined;

  async function releaseForgotten(): Promise<void> {
    for (const finding of (await findings()).found) {
      if (finding.kind !== 'leak') continue;
      await mend(finding);
      options.log.info({ finding: finding.text }, 'Docker was ended in the middle of a start: released');
    }
  }

  function tick(): void {
    look();
    if (forgottenDue !== undefined && clock.now() >= forgottenDue) {
      forgottenDue = undefined;
      // The store is away: at the next tick.
      releaseForgotten().catch(() => { forgottenDue ??= clock.now(); });
    }
    timer = clock.setTimeout(tick, TICK_MS);
  }

  // --- facts

  function onPools(): CheckedEndpoint[] {
    const names = new Map(state.list('name').map(({ key, value }) => [key, value.name]));
    const subnets = new Set(registry.list().filter(usesPool).map(({ id }) => id));
    const named = (id: string, at: { id: string; name: string }, address: string): CheckedEndpoint =>
      ({ id, name: options.nameOf(id) ?? names.get(id) ?? id.slice(0, 12), node: at, address });
    return [
      ...endpoints.list().filter((each) => subnets.has(each.networkId)).flatMap((each) => Object.values(addressesIn(each) ?? {}).map((address) => named(each.id, node, address))),
      ...state.list('endpoint').filter(({ owner }) => owner !== node.id).flatMap(({ key, owner, value }) => addressesOf(value).map((address) => named(key, { id: owner, name: options.nodeName(owner) }, address))),
    ];
  }

  async function findings(): Promise<{ pools: number; found: Finding[] }> {
    const survey = await upkeep.survey();
    const { entries } = await store.range('nodes/');
    const docker = options.foreignNetworks();
    // While Docker says nothing, any pool may be that of one of its networks.
    const foreign = docker === undefined
      ? survey.pools.map(({ subnet }) => [subnet, 'Docker'] as const)
      : docker.filter(({ IPAM }) => IPAM.Driver === 'weft').flatMap(({ Name, IPAM }) => (IPAM.Config ?? []).flatMap(({ Subnet }) => (Subnet === undefined ? [] : [[Subnet, Name] as const])));
    const found = check({
      now: clock.wallNow(), node, survey, networks: networks(), foreign: new Map(foreign), endpoints: onPools(),
      nodes: [node, ...entries.map(({ value }) => JSON.parse(value) as { id: string; name: string })],
      inKernel: new Map(endpoints.list().flatMap((endpoint) => {
        const present = kernelAddresses(endpoint);
        return present ? [[endpoint.id, present] as const] : [];
      })),
    });
    return { pools: survey.pools.length, found };
  }

  // --- repair

  async function mend({ repair }: Finding): Promise<string> {
    if (!repair) return 'has to be decided by people';
    switch (repair.do) {
      case 'release':
        await addresses.releaseAddress(repair.subnet, repair.address);
        return 'released';
      case 'claim':
        await addresses.requestAddress({ subnet: repair.subnet, address: repair.address, holder: repair.endpointId, chooser: 'weft' });
        return 'claimed';
      case 'compare':
        await upkeep.compare(repair.subnet);
        return 'put right';
      case 'remove-block':
        return await upkeep.removeBlock(repair.block) ? 'removed' : 'changed meanwhile: left alone';
      case 'remove-pool':
        await upkeep.removePool(repair.pool);
        return 'removed';
    }
  }

  // --- a node that is gone

  async function owner(reference: string): Promise<{ id: string; name: string; pools: { pool: SurveyedPool; blocks: number }[] }> {
    const { pools } = await upkeep.survey();
    const owners = new Map(pools.flatMap(({ blocks }) => blocks.map(({ claim }) => [claim.node, claim.name] as const)));
    const matching = owners.has(reference) ? [reference] : [...owners].filter(([, name]) => name === reference).map(([id]) => id);
    const [id, ...more] = matching;
    if (id === undefined || more.length > 0) {
      throw weftError('WEFT-RECLAIM-UNKNOWN', { node: reference, known: [...owners].map(([each, name]) => `${each} (${name})`).join(', ') || 'nobody' });
    }
    return { id, name: owners.get(id)!, pools: pools.map((pool) => ({ pool, blocks: pool.blocks.filter(({ claim }) => claim.node === id).length })).filter(({ blocks }) => blocks > 0) };
  }

  function refuseWhileAlive(id: string, name: string): void {
    const member = stateOf(id);
    const why = id === node.id ? 'this command runs on it'
      : member === 'alive' || member === 'suspect' ? `gossip has it as ${member}`
        : undefined;
    if (why !== undefined) throw weftError('WEFT-RECLAIM-ALIVE', { node: name, why });
    look();
    const silentMs = clock.now() - (silentSince.get(id) ?? started);
    if (silentMs < SILENT_MS) throw weftError('WEFT-RECLAIM-ALIVE', { node: name, why: `it has been silent for ${Math.floor(silentMs / 1000)} s only, and other nodes may still send to it for ${SILENT_MS / 1000} s` });
  }

  const calls: IpamCalls = {
    ipamPools: async () => {
      const { pools } = await upkeep.survey();
      const names = networks();
      const inUse = onPools();
      const usage = new Map(addresses.usage().map((each) => [each.subnet, each]));
      return pools.map((pool) => {
        const owned = Map.groupBy(pool.blocks.filter(({ current }) => current), ({ claim }) => claim.node);
        const network = names.get(pool.subnet);
        const shares = [...owned].map(([id, blocks]): PoolShare => {
          const own = id === node.id ? usage.get(pool.subnet) : undefined;
          const used = own?.used ?? inUse.filter((endpoint) => endpoint.node.id === id && pool.blockKeyOf(endpoint.address) !== undefined).length;
          return { id, name: blocks[0]!.claim.name, blocks: blocks.length, addresses: blocks.length * pool.blockSize, used, ...(own && { resting: own.resting, free: own.free }) };
        });
        const claimed = shares.reduce((sum, { blocks }) => sum + blocks, 0);
        return {
          subnet: pool.subnet, ...(pool.range !== undefined && { range: pool.range }), ...(network !== undefined && { network }),
          shares: shares.sort((a, b) => a.name.localeCompare(b.name)), unclaimed: (pool.blockCount - claimed) * pool.blockSize,
        };
      });
    },

    ipamCheck: async () => {
      const { pools, found } = await findings();
      return { node: node.name, pools, findings: found.map(({ id, kind, text, fix, repair }) => ({ id, kind, text, fix, fixable: repair !== undefined })) };
    },

    ipamFix: async (ids) => {
      const { found } = await findings();
      const results: FixAnswer['results'] = [];
      for (const id of ids) {
        const finding = found.find((each) => each.id === id);
        const outcome = finding ? await mend(finding).catch((error: unknown) => errorText(error)) : 'not so any more: left alone';
        results.push({ id, outcome });
      }
      return { results };
    },

    planReclaim: async (reference) => {
      const { id, name, pools } = await owner(reference);
      refuseWhileAlive(id, name);
      const names = networks();
      return {
        id, name, state: stateOf(id),
        blocks: pools.map(({ pool, blocks }) => {
          const network = names.get(pool.subnet);
          return { subnet: pool.subnet, ...(network !== undefined && { network }), blocks, addresses: blocks * pool.blockSize };
        }),
      };
    },

    reclaim: async (reference) => {
      const { id, name } = await owner(reference);
      refuseWhileAlive(id, name);
      return { id, name, blocks: await upkeep.reclaim(id) };
    },
  };

  tick();
  return {
    calls, problems,
    dockerAnswers: () => { forgottenDue = clock.now() + FORGOTTEN_MS; },
    close: () => {
      stopWatch();
      clock.clearTimeout(timer);
    },
  };
}

/** Undefined when it has not joined, or its namespace is on its way. */
function kernelAddresses({ sandbox }: Endpoint): string[] | undefined {
  if (sandbox === undefined || !isNetns(sandbox)) return undefined;
  const netns = openNetns(sandbox);
  try {
    return withRtnl(netns, (rtnl) => rtnl.addresses().map(({ address }) => withoutLength(address)));
  } finally {
    netns.close();
  }
}
