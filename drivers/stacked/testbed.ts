/**
 * One wire and machines on it, some of them hosts with a driver of weftd's.
 *
 *        switch (a bridge)                        192.168.50.0/24
 *   ┌───────┼────────┬──────────┐
 *  eth1    eth1     eth1        machines that nobody told us of
 *  host a  host b   (eth2 of a host: another wire, with nothing on it)
 *   │ │ │    │
 *  containers; and the host's own way to them
 */
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import type { Repair } from '../../cnm/driver.ts';
import type { Endpoint, Network } from '../../cnm/model.ts';
import { Space, endpoint, plugIn } from '../testbed.ts';
import type { StackedDriver, StackedDriverOptions } from './stacked.ts';

export class Lan {
  readonly spaces: Space[] = [];
  readonly switch: Space;

  constructor() {
    this.switch = this.space('switch');
    this.switch.rtnl.addLink({ kind: 'bridge', name: 'br0', up: true });
  }

  space(label: string): Space {
    const made = new Space(label);
    this.spaces.push(made);
    return made;
  }

  plug(machine: Space, port: string, device: string, address?: string): void {
    this.switch.rtnl.addLink({ kind: 'veth', name: port, master: this.switch.rtnl.link('br0')!.index, up: true, peer: { name: device, netns: machine.netns, up: true } });
    if (address !== undefined) machine.run('ip', 'address', 'add', address, 'dev', device);
  }

  remove(): void {
    for (const each of this.spaces) each.remove();
  }
}

export interface Container { space: Space; endpoint: Endpoint; ip: string }

export interface LanHostOptions {
  lan: Lan;
  name: string;
  create(options: StackedDriverOptions): StackedDriver;
  /** Which the host gets for itself on networks with host access; the second one after the first was given back. */
  ownAddresses: readonly [string, string];
  /** On the LAN. */
  address?: string;
}

/** weftd's part of a host on the LAN. */
export class LanHost {
  readonly space: Space;
  readonly networks: Network[] = [];
  readonly endpoints: Endpoint[] = [];
  readonly up = new Set<string>();
  readonly before: string;
  readonly name: string;
  ownAddress: string;
  driver!: StackedDriver;
  readonly #options: LanHostOptions;

  constructor(options: LanHostOptions) {
    const { lan, name, address } = options;
    this.#options = options;
    this.name = name;
    [this.ownAddress] = options.ownAddresses;
    this.space = lan.space(name);
    lan.plug(this.space, `p-${name}`, 'eth1', address);
    this.space.rtnl.addLink({ kind: 'veth', name: 'eth2', up: true, peer: { name: 'eth2-end', up: true } });
    this.before = this.space.snapshot();
    this.start();
  }

  start(): void {
    this.driver = this.#options.create({
      host: this.space.netns, self: () => ({ id: this.name, name: this.name }), networks: () => this.networks, clock: systemClock, log: silentLogger,
      hostAddresses: async () => [this.ownAddress],
      releaseHostAddresses: async () => void ([, this.ownAddress] = this.#options.ownAddresses),
      onCarrier: (id, up) => void (up ? this.up.add(id) : this.up.delete(id)),
    });
  }

  async create(added: Network): Promise<Network> {
    const made = { ...added, node: this.name };
    this.driver.validate(made);
    this.networks.push(made);
    await this.driver.createNetwork(made);
    return made;
  }

  async delete(doomed: Network): Promise<void> {
    await this.driver.deleteNetwork(doomed);
    this.networks.splice(this.networks.findIndex(({ id }) => id === doomed.id), 1);
  }

  async attach(name: string, on: Network, ip: string, more: Partial<Endpoint> = {}): Promise<Container> {
    const container = this.#options.lan.space(name);
    const mac = this.driver.sharedMac?.(on);
    const made = { ...endpoint(name, on, `${ip}/${ip.includes(':') ? 64 : 24}`, { ...(mac !== undefined && { mac }), ...more }), sandbox: container.path };
    this.endpoints.push(made);
    try {
      await this.driver.createEndpoint(on, made);
      await plugIn(this.space, container, made, await this.driver.join(on, made));
    } catch (error) {
      this.endpoints.pop();
      await this.driver.deleteEndpoint(on, made);
      throw error;
    }
    return { space: container, endpoint: made, ip };
  }

  async detach({ endpoint: doomed }: Container): Promise<void> {
    const on = this.networks.find(({ id }) => id === doomed.networkId)!;
    await this.driver.leave(on, doomed);
    this.endpoints.splice(this.endpoints.indexOf(doomed), 1);
    await this.driver.deleteEndpoint(on, doomed);
  }

  /** What was found, in words. */
  async repair(): Promise<string[]> {
    return (await this.driver.repair(this.networks, this.endpoints)).map(({ what }: Repair) => what);
  }
}
