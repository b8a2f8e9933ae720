/** What can happen to the hosts of a cluster, and a random choice of it again and again. */
import type { Random } from '../../base/random.ts';
import type { Host, Service } from '../lab/host.ts';
import { wait } from '../lab/run.ts';
import { bothWays, type Cut, type Partitions } from '../lab/partitions.ts';
import type { Outage } from './traffic.ts';

const EVERY_MS = 1_000;
const LONGEST_MS = 6_000;
/** Together with another one. */
const PAIR_SHARE = 0.25;
const LOSS = 0.5;

/** Everything that starts and ends. Troubles that share a `part` are never there at once. */
interface Trouble { what: string; part: string; begin(): Promise<() => Promise<unknown>> }

/** From one host to the other nothing, or not everything, arrived. */
export interface CutTime extends Outage { between: readonly [Host, Host] }

export interface TroublesOptions {
  hosts: readonly Host[];
  services: ReadonlyMap<Host, Service>;
  partitions: Partitions;
  random: Random;
  dockerKilled(host: Host): () => Promise<void>;
}

export class Troubles {
  readonly #options: TroublesOptions;
  readonly #all: readonly Trouble[];
  readonly cuts: CutTime[] = [];
  /** What happened when, in seconds, for whoever looks for the cause of a failure. */
  readonly log: string[] = [];

  constructor(options: TroublesOptions) {
    this.#options = options;
    const { hosts } = options;
    const pairs = hosts.flatMap((a, i) => hosts.slice(i + 1).map((b) => [a, b] as const));
    this.#all = [
      ...hosts.flatMap((host) => [...this.#processes(host), this.#cut(`${host.name} is alone`, hosts.filter((other) => other !== host).flatMap((other) => bothWays(host, other)))]),
      ...pairs.flatMap(([a, b]) => [
        this.#cut(`${a.name} and ${b.name} are apart`, bothWays(a, b)),
        this.#cut(`nothing from ${a.name} to ${b.name}`, [{ from: a, to: b }]),
        this.#cut(`nothing from ${b.name} to ${a.name}`, [{ from: b, to: a }]),
        this.#cut(`half is lost between ${a.name} and ${b.name}`, bothWays(a, b, LOSS)),
      ]),
    ];
  }

  /** A new one every second; resolves when all are over. */
  async run(ms: number): Promise<number> {
    const { random } = this.#options;
    const started = performance.now();
    const busy = new Set<string>();
    const running: Promise<void>[] = [];
    let count = 0;
    for (let next = started; next < started + ms; next += EVERY_MS) {
      await wait(Math.max(0, next - performance.now()));
      for (let more = true; more; more = random.float() < PAIR_SHARE) {
        const free = this.#all.filter(({ part }) => !busy.has(part));
        const trouble = free[random.int(free.length)];
        const duration = random.int(LONGEST_MS);
        if (!trouble) continue;
        busy.add(trouble.part);
        count++;
        this.log.push(`${((performance.now() - started) / 1000).toFixed(1)} ${trouble.what} for ${duration} ms`);
        running.push((async () => {
          const end = await trouble.begin();
          await wait(duration);
          await end();
          busy.delete(trouble.part);
        })());
      }
    }
    await Promise.all(running);
    return count;
  }

  #cut(what: string, cuts: readonly Cut[]): Trouble {
    return {
      what, part: what,
      begin: async () => {
        const times = cuts.map(({ from, to }): CutTime => ({ between: [from, to], from: performance.now(), to: Infinity }));
        this.cuts.push(...times);
        const heal = await this.#options.partitions.cut(cuts);
        return async () => {
          await heal();
          for (const time of times) time.to = performance.now();
        };
      },
    };
  }

  #processes(host: Host): Trouble[] {
    const { services, dockerKilled } = this.#options;
    const weftd = services.get(host)!;
    const etcd = (signal: string) => host.exec(['pkill', `-${signal}`, '-x', 'etcd']);
    const freeze = (pidOf: string) => async () => {
      const signal = (name: string) => host.exec(['sh', '-c', `kill -${name} ${pidOf}`]);
      await signal('STOP');
      return () => signal('CONT');
    };
    return [
      { what: `etcd of ${host.name} is killed`, part: `etcd ${host.name}`, begin: async () => { await etcd('KILL'); return async () => undefined; } },
      { what: `etcd of ${host.name} stands still`, part: `etcd ${host.name}`, begin: async () => { await etcd('STOP'); return () => etcd('CONT'); } },
      { what: `weftd of ${host.name} is killed`, part: `weftd ${host.name}`, begin: async () => { await weftd.kill(); return () => weftd.start(); } },
      { what: `weftd of ${host.name} stands still`, part: `weftd ${host.name}`, begin: async () => freeze(String(await weftd.pid()))() },
      {
        what: `dockerd of ${host.name} is killed`, part: `dockerd ${host.name}`,
        begin: async () => {
          const lost = dockerKilled(host);
          await host.stopDocker('KILL');
          return async () => {
            await host.startDocker();
            await lost();
          };
        },
      },
      { what: `dockerd of ${host.name} stands still`, part: `dockerd ${host.name}`, begin: freeze('$(cat /run/dockerd.pid)') },
    ];
  }
}
