/** Containers and sandboxes that come and go on every host, whatever happens to it. */
import { AnsweredError } from '../../cli/client.ts';
import { type Random, seededRandom } from '../../base/random.ts';
import type { Tenure } from '../../ipam/tenures-for-tests.ts';
import type { SandboxAnswer } from '../../agent/api.ts';
import type { Host } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { wait } from '../lab/run.ts';
import { control } from '../lab/weft.ts';
import { History } from './history.ts';

const SANDBOX_WORKERS = 3;
const HOLD_MS = 1_500;
const AGAIN_MS = 200;
const DOCKER_TIMEOUT_MS = 60_000;
/** Of what the churn starts with Docker. */
const LABEL = 'churn';

export interface ChurnOptions { hosts: readonly Host[]; networks: readonly string[]; /** The one with containers of Docker's. */ dockerNetwork: string; seed: number }

export class Churn {
  readonly history = new History();
  readonly counts = { given: 0, containers: 0, unanswered: 0, dockerFailed: 0 };
  /** Code of a refusal → how often it was the answer. */
  readonly refused: Record<string, number> = {};
  readonly #options: ChurnOptions;
  /** Containers that run, by host. */
  readonly #containers = new Map<Host, Map<string, Tenure>>();
  #over = false;
  #workers: Promise<void>[] = [];

  constructor(options: ChurnOptions) {
    this.#options = options;
  }

  start(): void {
    const { hosts, seed } = this.#options;
    this.#workers = hosts.flatMap((host, node) => [
      ...Array.from({ length: SANDBOX_WORKERS }, (_, i) => this.#sandboxes(host, node, i, seededRandom(seed + 100 * node + i))),
      this.#dockers(host, node, seededRandom(seed + 100 * node + 99)),
    ]);
  }

  /** Resolves when all that was started has been removed, which needs everything to work again. */
  async end(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#workers);
  }

  /** Whatever Docker has ended on its own since the event `at`, when its daemon was killed. */
  async lost(host: Host, at: number): Promise<void> {
    const { stdout } = await host.tryDocker('ps', '--format', '{{.Names}}', '--filter', `label=${LABEL}`);
    const running = new Set(stdout.split('\n'));
    for (const [name, tenure] of this.#containers.get(host) ?? []) if (!running.has(name) && tenure.from < at) this.history.released(tenure, at);
  }

  async #sandboxes(host: Host, node: number, worker: number, random: Random): Promise<void> {
    const { networks } = this.#options;
    for (let i = 0; !this.#over; i++) {
      const name = `${host.name}-${worker}-${i}`;
      let tenure: Tenure | undefined;
      try {
        const { address } = await control<SandboxAnswer>(host, 'POST', 'sandboxes', { name, network: networks[random.int(networks.length)]! });
        tenure = this.history.given(address!, name, node);
        this.counts.given++;
        await wait(random.int(HOLD_MS));
      } catch (error) {
        if (error instanceof AnsweredError) {
          this.#refusal(error);
          await wait(AGAIN_MS);
          continue;
        }
        this.counts.unanswered++;
      }
      if (tenure) this.history.released(tenure);
      await this.#remove(host, name);
    }
  }

  async #remove(host: Host, name: string): Promise<void> {
    for (;;) {
      try {
        await control(host, 'DELETE', `sandboxes/${name}`);
        return;
      } catch (error) {
        if (error instanceof AnsweredError && error.message.startsWith('WEFT-SANDBOX-UNKNOWN')) return;
        if (error instanceof AnsweredError) this.#refusal(error);
        await wait(AGAIN_MS);
      }
    }
  }

  async #dockers(host: Host, node: number, random: Random): Promise<void> {
    const { dockerNetwork } = this.#options;
    const running = new Map<string, Tenure>();
    this.#containers.set(host, running);
    const docker = (...args: string[]) => host.exec(['docker', ...args], { timeoutMs: DOCKER_TIMEOUT_MS });
    for (let i = 0; !this.#over; i++) {
      const name = `${host.name}-docker-${i}`;
      const started = await docker('run', '-d', '--label', LABEL, '--stop-signal', 'KILL', '--network', dockerNetwork, '--name', name, IMAGE, 'sleep', '100000');
      const { stdout } = await docker('inspect', '-f', `{{(index .NetworkSettings.Networks "${dockerNetwork}").IPAddress}}`, name);
      if (started.code === 0 && stdout.trim() !== '') {
        running.set(name, this.history.given(stdout.trim(), name, node));
        this.counts.containers++;
        await wait(random.int(HOLD_MS));
      } else {
        this.counts.dockerFailed++;
      }
      const tenure = running.get(name);
      if (tenure) this.history.released(tenure);
      running.delete(name);
      while (!/no such container/i.test((await docker('rm', '-f', name)).stderr)) await wait(AGAIN_MS);
    }
  }

  #refusal({ message }: Error): void {
    const [code = message] = /^WEFT-[A-Z-]+/.exec(message) ?? [];
    this.refused[code] = (this.refused[code] ?? 0) + 1;
  }
}
