/**
 *            outside (10.99.9.0/24)
 *               |
 *            router
 *           /      \
 *   10.99.1.0/24   10.99.2.0/24
 *    h1 h3 h5 …     h2 h4 …
 *
 * Hosts as namespaces on one machine. Labs do not see each other, so they may run side by side and use the same
 * addresses. Everything of a lab carries its name and goes with destroy, or with the next lab of that name.
 */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Host, endLeftovers } from './host.ts';
import { must, run, type Result } from './run.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const DEFAULT_DIRECTORY = join(ROOT, '.lab');

export interface LabOptions {
  /** Letters and digits, at most 8. */
  name: string;
  hosts: number;
  docker?: boolean;
  dockerFlags?: readonly string[];
  engine?: string | undefined;
  /** Address of the outside machine's resolver by default. */
  nameserver?: string;
}

export const OUTSIDER_ADDRESS = '10.99.9.10';

export class Lab {
  readonly name: string;
  readonly directory: string;
  readonly hosts: Host[] = [];

  constructor(name: string) {
    this.name = name;
    this.directory = join(DEFAULT_DIRECTORY, name);
  }

  host(number: number): Host {
    const host = this.hosts[number - 1];
    if (!host) throw new Error(`there is no host ${number}`);
    return host;
  }

  namespace(label: string): string {
    return `wl-${this.name}-${label}`;
  }

  /** A command on a machine of the lab that is not a host of Docker's: 'outside' or 'router'. */
  on(label: 'outside' | 'router', command: readonly string[]): Promise<Result> {
    return run(['ip', 'netns', 'exec', this.namespace(label), ...command]);
  }

  /** A second network card for a host, on a subnet of its own. Returns its address. */
  async addNic(number: number): Promise<string> {
    const address = `10.99.${100 + number}.${number}`;
    await this.wire(this.host(number).namespace, 'eth1', `r${number}b`, address);
    return address;
  }

  /** One wire to the router, whose end answers for the subnet's .254 and routes the address. */
  async wire(namespace: string, device: string, routerEnd: string, address: string): Promise<void> {
    const router = this.namespace('router');
    const gateway = address.replace(/\d+$/, '254');
    await must(['ip', '-batch', '-'], { input: [
      `link add ${routerEnd} netns ${router} type veth peer name ${device} netns ${namespace}`,
    ].join('\n') });
    await must(['ip', '-n', router, '-batch', '-'], { input: [
      `addr add ${gateway}/32 dev ${routerEnd}`, `link set ${routerEnd} up`, `route add ${address}/32 dev ${routerEnd}`,
    ].join('\n') });
    await must(['ip', '-n', namespace, '-batch', '-'], { input: [
      `addr add ${address}/24 dev ${device}`, `link set ${device} up`, 'link set lo up',
    ].join('\n') });
    // Neighbours of a subnet sit behind the router as well: it answers ARP for all of them.
    await must(['ip', 'netns', 'exec', router, 'sysctl', '-qw', `net.ipv4.conf.${routerEnd}.proxy_arp=1`, `net.ipv4.neigh.${routerEnd}.proxy_delay=0`]);
  }

  async destroy(): Promise<void> {
    for (const host of this.hosts) await host.powerCut();
    for (const entry of existsSync(this.directory) ? readdirSync(this.directory) : []) endLeftovers(join(this.directory, entry));
    const { stdout } = await run(['ip', 'netns', 'list']);
    for (const line of stdout.split('\n')) {
      const name = line.split(' ')[0]!;
      if (name.startsWith(`wl-${this.name}-`)) await run(['ip', 'netns', 'delete', name]);
    }
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

export async function createLab({ name, hosts, docker = false, dockerFlags = [], engine, nameserver = OUTSIDER_ADDRESS }: LabOptions): Promise<Lab> {
  const lab = new Lab(name);
  await lab.destroy();
  await mkdir(lab.directory, { recursive: true });
  try {
    const router = lab.namespace('router');
    await must(['ip', 'netns', 'add', router]);
    await must(['ip', '-n', router, 'link', 'set', 'lo', 'up']);
    await must(['ip', 'netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    await addMachine(lab, 'outside', OUTSIDER_ADDRESS, 'out');
    for (let number = 1; number <= hosts; number++) {
      const address = `10.99.${number % 2 === 1 ? 1 : 2}.${number}`;
      const namespace = await addMachine(lab, `h${number}`, address, `r${number}`);
      const directory = join(lab.directory, `h${number}`);
      await mkdir(directory, { recursive: true });
      const host = new Host({ namespace, name: `h${number}`, directory, address, cacheDirectory: DEFAULT_DIRECTORY, nameserver, engine });
      lab.hosts.push(host);
      await host.powerOn();
    }
    if (docker) await Promise.all(lab.hosts.map((host) => host.startDocker(dockerFlags)));
    return lab;
  } catch (error) {
    await lab.destroy();
    throw error;
  }
}

async function addMachine(lab: Lab, label: string, address: string, routerEnd: string): Promise<string> {
  const namespace = lab.namespace(label);
  await must(['ip', 'netns', 'add', namespace]);
  await lab.wire(namespace, 'eth0', routerEnd, address);
  await must(['ip', '-n', namespace, 'route', 'add', 'default', 'via', address.replace(/\d+$/, '254')]);
  return namespace;
}
