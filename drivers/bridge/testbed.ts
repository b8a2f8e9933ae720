/** A host for the bridge driver's tests: its namespace on the underlay, weftd's part of it, and containers. */
import { silentLogger } from '../../base/log.ts';
import type { Endpoint, JoinAnswer, Network, PortMapping } from '../../cnm/model.ts';
import type { Link } from '../../linux/types.ts';
import { type Space, type Underlay, endpoint, plugIn, rememberIn } from '../testbed.ts';
import { createBridgeDriver, type BridgeDriver } from './bridge.ts';

export interface Container { space: Space; endpoint: Endpoint; answer: JoinAnswer; ip: string }

/** weftd's part of a host with bridge networks. */
export class BridgeHost {
  readonly space: Space;
  readonly address: string;
  readonly networks: Network[] = [];
  readonly endpoints: Endpoint[] = [];
  readonly published = new Map<string, PortMapping[]>();
  readonly journal = new Map<string, string>();
  readonly warnings: string[] = [];
  readonly before: string;
  driver!: BridgeDriver;
  readonly #underlay: Underlay;

  /** At 10.99.1.1. */
  constructor(underlay: Underlay) {
    this.#underlay = underlay;
    ({ space: this.space, address: this.address } = underlay.host(1, 1));
    this.space.run('sysctl', '-qw', 'net.ipv4.ip_forward=0');
    // As Docker leaves a host: nothing is forwarded unless somebody says so.
    this.space.run('iptables', '-P', 'FORWARD', 'DROP');
    this.before = this.space.snapshot();
    this.start();
  }

  get #bridges(): string {
    return `/run/netns/${this.space.name}-bridges`;
  }

  /** What weftd does when it starts; after driver.close(), once more. */
  start(): void {
    this.driver = createBridgeDriver({
      host: this.space.netns, path: this.#bridges, networks: () => this.networks, published: this.published,
      journal: rememberIn(this.journal),
      log: { ...silentLogger, warn: (_, message) => void this.warnings.push(message ?? '') },
    });
  }

  async create(added: Network): Promise<void> {
    this.driver.validate(added);
    this.networks.push(added);
    await this.driver.createNetwork(added);
  }

  async delete(doomed: Network): Promise<void> {
    await this.driver.deleteNetwork(doomed);
    this.networks.splice(this.networks.indexOf(doomed), 1);
  }

  /** `ip6`: the second address of one that has both. */
  async attach(name: string, on: Network, ip: string, ip6?: string): Promise<Container> {
    const space = this.#underlay.space(name);
    const made = endpoint(name, on, `${ip}/${ip.includes(':') ? 64 : 24}`, ip6 === undefined ? {} : { addressIpv6: `${ip6}/64` });
    await this.driver.createEndpoint(on, made);
    this.endpoints.push(made);
    const answer = await this.driver.join(on, made);
    await plugIn(this.space, space, made, answer);
    return { space, endpoint: made, answer, ip };
  }

  async detach(container: Container): Promise<void> {
    this.unpublish(container);
    const on = this.networks.find(({ id }) => id === container.endpoint.networkId)!;
    await this.driver.leave(on, container.endpoint);
    await this.driver.deleteEndpoint(on, container.endpoint);
    this.endpoints.splice(this.endpoints.indexOf(container.endpoint), 1);
  }

  async publish(container: Container, ...ports: PortMapping[]): Promise<PortMapping[]> {
    const chosen = await this.driver.publish({ ...container.endpoint, ports });
    this.published.set(container.endpoint.id, chosen);
    return chosen;
  }

  unpublish(container: Container): void {
    this.published.delete(container.endpoint.id);
    this.driver.unpublish(container.endpoint.id);
  }

  /** What was found, in words. */
  async repair(): Promise<string[]> {
    return (await this.driver.repair(this.networks, this.endpoints)).map(({ what }) => what);
  }

  link(name: string): Link | undefined {
    return this.space.rtnl.link(name);
  }

  /** Runs a command where the bridges are. */
  inside(...command: string[]): string {
    return this.space.run(...this.asInside(...command));
  }

  /** A command of the host's that runs another where the bridges are. */
  asInside(...command: string[]): string[] {
    return ['nsenter', `--net=${this.#bridges}`, ...command];
  }

  /** Settings that were written down are as they were. */
  restoreSysctls(): void {
    for (const [name, value] of [...this.journal].reverse()) this.space.run('sysctl', '-qw', `${name.replaceAll('/', '.')}=${value}`);
  }

  async purge(): Promise<void> {
    await this.driver.purge();
    this.driver.close();
  }
}

export const port = (hostPort: number, containerPort: number, more: Partial<PortMapping> = {}): PortMapping => ({ protocol: 'tcp', hostIp: '', hostPort, containerPort, ...more });
