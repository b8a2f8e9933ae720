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
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { removeControlGroups } from './control-groups.ts';
import { Host } from './host.ts';
import { lockLab, type Lock } from './lock.ts';
import { must, run, until, type Result } from './run.ts';
import { connect, gatewayOf, type Card, type Wire } from './wire.ts';

const ROOT = resolve(import.meta.dirname, '../..');
export const LAB_DIRECTORY = join(ROOT, '.lab');

export interface LabOptions {
  /** Letters and digits, at most 12. */
  name: string;
  hosts: number;
  docker?: boolean;
  dockerFlags?: readonly string[];
  /** Directory with another dockerd, containerd and shim (engines.ts). */
  engine?: string | undefined;
  /** Address of the outside machine's resolver by default. */
  nameserver?: string;
}

export const OUTSIDER_ADDRESS = '10.99.9.10';

export class Lab {
  readonly name: string;
  readonly directory: string;
  readonly hosts: Host[] = [];
  readonly #lock: Lock;

  constructor(name: string, lock: Lock) {
    this.name = name;
    this.directory = join(LAB_DIRECTORY, name);
    this.#lock = lock;
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

  /** A process there that goes on; it ends with the lab. */
  spawnOn(label: 'outside' | 'router', command: readonly string[]): ChildProcess {
    const log = openSync(join(this.directory, `${label}.log`), 'a');
    const child = spawn('ip', ['netns', 'exec', this.namespace(label), ...command], { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    child.unref();
    return child;
  }

  /** A second network card for a host, on a subnet of its own. Returns its address. */
  async addNic(number: number): Promise<string> {
    const address = `10.99.${100 + number}.${number}`;
    await this.host(number).addCard({ device: 'eth1', routerEnd: `r${number}b`, address });
    return address;
  }

  /** A network namespace, wired to the router; the default route is by the first card. */
  async addMachine(label: string, cards: readonly Card[]): Promise<Wire[]> {
    const namespace = this.namespace(label);
    await must(['ip', 'netns', 'add', namespace]);
    // As Debian boots. A new namespace has the machine's value, which depends on what runs there.
    await must(['ip', 'netns', 'exec', namespace, 'sysctl', '-qw', 'net.ipv4.ip_forward=0']);
    const wires: Wire[] = [];
    for (const card of cards) wires.push(await connect(this.namespace('router'), namespace, card));
    await must(['ip', '-n', namespace, 'route', 'add', 'default', 'via', gatewayOf(cards[0]!.address)]);
    return wires;
  }

  /** Also of a run that crashed: whatever carries the name. */
  async clear(): Promise<void> {
    for (const host of this.hosts) await host.powerCut();
    const namespaces = (await must(['ip', 'netns', 'list'])).split('\n').map((line) => line.split(' ')[0]!);
    for (const namespace of namespaces.filter((each) => each.startsWith(this.namespace('')))) {
      await endProcesses(namespace);
      await removeControlGroups(namespace);
      await must(['ip', 'netns', 'delete', namespace]);
    }
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }

  async destroy(): Promise<void> {
    await this.clear();
    await this.#lock.release();
  }
}

export async function createLab({ name, hosts, docker = false, dockerFlags = [], engine, nameserver = OUTSIDER_ADDRESS }: LabOptions): Promise<Lab> {
  // A name is a part of others' names: with a dash in it, one lab would take another's hosts for its own.
  if (!/^[a-z0-9]{1,12}$/.test(name)) throw new Error(`a lab cannot be called ${name}: letters and digits, at most 12`);
  const lab = new Lab(name, await lockLab(name));
  try {
    await lab.clear();
    await mkdir(lab.directory, { recursive: true });
    const router = lab.namespace('router');
    await must(['ip', 'netns', 'add', router]);
    await must(['ip', '-n', router, 'link', 'set', 'lo', 'up']);
    await must(['ip', 'netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    await lab.addMachine('outside', [{ device: 'eth0', routerEnd: 'r-outside', address: OUTSIDER_ADDRESS }]);
    for (let number = 1; number <= hosts; number++) {
      const address = `10.99.${number % 2 === 1 ? 1 : 2}.${number}`;
      const label = `h${number}`;
      const directory = join(lab.directory, label);
      await mkdir(directory, { recursive: true });
      const host = new Host({
        namespace: lab.namespace(label), router, name: label, directory, cards: [{ device: 'eth0', routerEnd: `r-${label}`, address }], cacheDirectory: LAB_DIRECTORY, nameserver, engine,
        install: (cards) => lab.addMachine(label, cards),
      });
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

/** Ends what runs in a network namespace; with a host's process 1, all the host has. */
async function endProcesses(namespace: string): Promise<void> {
  await until(`the processes of ${namespace} end`, async () => {
    const pids = (await must(['ip', 'netns', 'pids', namespace])).split('\n').filter((line) => line !== '');
    for (const pid of pids) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch { /* it has ended */ }
    }
    return pids.length === 0;
  }, 20_000, 20);
}
