/** Nodes for the overlay's tests: each has a host namespace on the underlay, a fabric, and containers. */
import { execFileSync } from 'node:child_process';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { systemRandom } from '../../base/random.ts';
import type { Family } from '../../base/prefix.ts';
import type { NodeInfo, SoftState } from '../../cluster/state.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import { SharedState, Space, Underlay, endpoint, nodeInfo, plugIn, rememberIn } from '../testbed.ts';
import { openFabric, type Fabric } from './fabric.ts';
import { generateKeyPair } from './key-pair.ts';
import { createOverlayDriver, type OverlayDriver } from './overlay.ts';

export interface Container { container: Space; endpoint: Endpoint; ip: string }

export class Node {
  readonly space: Space;
  readonly address: string;
  readonly state: SoftState;
  readonly journal = new Map<string, string>();
  readonly endpoints: Endpoint[] = [];
  readonly before: string;
  /** How often a repair was asked for because of another MTU. */
  mtuChanges = 0;
  /** What it remembers when it starts anew. */
  paths: ReadonlyMap<number, number> = new Map();
  fabric!: Fabric;
  driver!: OverlayDriver;
  readonly #underlay: Underlay;
  readonly #networks: Network[];
  /** Counts from the next start on. */
  fastPath: boolean;
  /** Of WireGuard; another one counts from the next repair on. */
  keys = generateKeyPair();
  #info: ReturnType<typeof nodeInfo>;

  /** `family`: of the underlay. */
  constructor(underlay: Underlay, shared: Pick<SharedState, 'of'>, networks: Network[], id: string, number: number, subnet: number, family: Family = 4, { fastPath = true } = {}) {
    const host = underlay.host(number, subnet);
    this.space = host.space;
    this.address = family === 4 ? host.address : underlay.addIpv6(host, number, subnet);
    if (family === 6) this.space.run('ip', '-4', 'address', 'flush', 'dev', 'eth0');
    this.fastPath = fastPath;
    this.#underlay = underlay;
    this.#networks = networks;
    this.#info = nodeInfo(id, number, this.address);
    this.state = shared.of(id);
    // As Docker leaves a host: nothing is forwarded unless somebody says so.
    this.space.run('iptables', '-P', 'FORWARD', 'DROP');
    this.before = this.space.snapshot();
    this.start();
    this.state.publish('node', 'self', this.#info);
  }

  /** What weftd does when it starts; after stop(), once more. */
  start(): void {
    // It knows this of the kernel only.
    this.#info = { ...this.#info, wireguard: undefined };
    this.fabric = openFabric({
      host: this.space.netns, path: `/run/netns/${this.space.name}-fabric`, nodePrefix: '10.255.0.0/16', journal: rememberIn(this.journal),
      wireguard: {
        port: 7952, keys: () => this.keys, clock: systemClock,
        announce: (wireguard) => this.tell({ wireguard }),
      },
    });
    this.driver = createOverlayDriver({
      fabric: this.fabric, state: this.state, self: () => this.#info, networks: () => this.#networks, belongs: () => true, vxlanPort: 4789, fastPath: this.fastPath, clock: systemClock, log: silentLogger,
      tellPathMtu: (pathMtu) => this.tell({ pathMtu }), onMtu: () => this.mtuChanges++, pathMemory: { load: () => this.paths, save: (found) => (this.paths = found) }, random: systemRandom,
    });
  }

  /** To the other nodes, of this one. */
  tell(change: Partial<NodeInfo>): void {
    this.state.publish('node', 'self', (this.#info = { ...this.#info, ...change }));
  }

  stop(): void {
    this.driver.close();
    this.fabric.close();
  }

  /** `ip6`: the second address of one that has both. */
  async attach(name: string, on: Network, ip: string, ip6?: string): Promise<Container> {
    const container = this.#underlay.space(name);
    const made = endpoint(name, on, `${ip}/${ip.includes(':') ? 64 : 24}`, ip6 === undefined ? {} : { addressIpv6: `${ip6}/64` });
    await this.driver.createEndpoint(on, made);
    const answer = await this.driver.join(on, made);
    this.state.publish('endpoint', made.id, { networkId: on.id, endpointId: made.id, ip, ...(ip6 !== undefined && { ip6 }), mac: made.mac });
    await plugIn(this.space, container, made, answer);
    this.endpoints.push(made);
    return { container, endpoint: made, ip };
  }

  /** What was found, in words. */
  async repair(): Promise<string[]> {
    return (await this.driver.repair(this.#networks, this.endpoints)).map(({ what }) => what);
  }

  /** The host's part of IPv6, without what moves by itself. */
  ipv6(): string {
    return [
      this.space.run('ip', '-6', 'route', 'show', 'table', 'all').replaceAll(/^local fe80:.*\n/gm, ''), this.space.run('ip', '-6', '-o', 'address', 'show', 'scope', 'global'),
      this.space.run('sysctl', '-a', '--pattern', String.raw`^net\.ipv6\.conf\.[^.]*\.(forwarding|accept_ra|disable_ipv6)$`),
    ].join('\n');
  }

  /** A command in the fabric. */
  inFabric(...command: string[]): string {
    return execFileSync('ip', ['netns', 'exec', `${this.space.name}-fabric`, ...command], { encoding: 'utf8' });
  }

  async purge(): Promise<unknown[]> {
    this.driver.close();
    const errors = await this.fabric.purge();
    this.fabric.close();
    return errors;
  }
}
