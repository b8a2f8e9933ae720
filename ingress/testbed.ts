//            router
//   10.99.1.0/24 │ 10.99.2.0/24
//          ┌─────┴─────┐
//   host a 10.99.1.1  client 10.99.2.2        host b has no way here: only its part of the state is looked at
//      │      │
//     a1     a2      10.20.0.11, 10.20.0.12, wired to the host itself
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Test } from 'tap';
import { weftError } from '../base/errors.ts';
import { silentLogger } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { Endpoint, PortMapping } from '../cnm/model.ts';
import { portKey } from '../cnm/ports.ts';
import { SharedState, type Space, Underlay, endpoint, network, nodeInfo, serve } from '../drivers/testbed.ts';
import { openNft } from '../linux/nft.ts';
import type { Nft } from '../linux/types.ts';
import { openLocalStore } from '../store/local.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { LocalStore, Store } from '../store/store.ts';
import { createPortClaims } from './claims.ts';
import type { Ingress } from './ingress.ts';
import { createMesh } from './mesh.ts';

const web = network('web', 'overlay', '10.20.0.0/24');
export const port = (hostPort: number, containerPort: number, more: Partial<PortMapping> = {}): PortMapping => ({ protocol: 'tcp', hostIp: '', hostPort, containerPort, ...more });
export const container = (name: string, ip: string, ...ports: PortMapping[]): Endpoint => endpoint(name, web, `${ip}/24`, { ports });

/** weftd's part of a host with published ports. */
export class MeshHost {
  readonly name: string;
  readonly space: Space;
  readonly local: LocalStore;
  readonly forgotten: string[] = [];
  readonly warnings: string[] = [];
  backends: string[] = [];
  storeIsAway = false;
  nftFails = false;
  mesh!: Ingress;
  readonly clock = new VirtualClock();
  readonly #nft: Nft;
  readonly #store: Store;
  readonly #shared: SharedState;

  constructor(name: string, space: Space, shared: SharedState, store: Store, folder: string) {
    this.name = name;
    this.space = space;
    this.#shared = shared;
    this.local = openLocalStore(join(folder, `${name}.db`));
    this.#nft = openNft(space.netns);
    const through = <Args extends unknown[], Answer>(ask: (...args: Args) => Promise<Answer>) => async (...args: Args): Promise<Answer> => {
      if (this.storeIsAway) throw weftError('WEFT-STORE-UNREACHABLE', { store: 'test', detail: 'cut off' });
      return ask(...args);
    };
    this.#store = { ...store, get: through(store.get), txn: through(store.txn) };
    this.start();
  }

  start(): void {
    const state = this.#shared.of(this.name);
    const say = (skippedPorts: string[]): void => state.publish('node', 'self', { ...nodeInfo(this.name, 1, ''), skippedPorts });
    say([]);
    this.mesh = createMesh({
      host: this.space.netns, state, local: this.local, clock: this.clock, claims: createPortClaims({ store: this.#store, local: this.local, node: this.name }),
      nft: {
        ...this.#nft,
        run: (script) => {
          if (this.nftFails) throw new Error('no');
          this.#nft.run(script);
        },
      },
      random: seededRandom(7), log: { ...silentLogger, error: (_, message) => void this.warnings.push(message ?? '') },
      onLocalBackends: (backends) => (this.backends = backends.map(({ ip, protocol, port: at }) => `${protocol} ${ip}:${at}`).sort()),
      onSkipped: say,
      forgetFlows: ({ ip, port: at }) => void this.forgotten.push(`${ip}:${at}`),
      nodeName: (id) => `node ${id}`,
    });
  }

  async publish(endpoint: Endpoint, service: string): Promise<PortMapping[]> {
    const ports = await this.mesh.publish(web, endpoint, service);
    await nextTurn();
    return ports;
  }

  async revoke({ id }: Endpoint): Promise<void> {
    await this.mesh.revoke(id);
    await nextTurn();
  }

  /** 'tcp/80 web: node a 10.0.0.1:80' */
  list(): string[] {
    return this.mesh.list().map(({ protocol, hostIp, port: at, service, backends, skippedOn }) =>
      `${portKey(protocol, hostIp, at)} ${service}: ${backends.map(({ node, ip, port: target }) => `${node} ${ip}:${target}`).sort().join(', ')}${skippedOn.length > 0 ? `; not on ${skippedOn.join(', ')}` : ''}`).sort();
  }

  /** Whether a program of the host could have the port. */
  free(at: number): boolean {
    return !this.space.succeeds('busybox', 'sh', '-c', `timeout 0.2 busybox nc -l -p ${at}; test $? = 1`);
  }

  async close(): Promise<void> {
    await this.mesh.close();
    this.#nft.close();
    this.local.close();
  }
}

export interface MeshScene {
  underlay: Underlay;
  /** Of host a, with its address on the underlay. */
  space: Space;
  address: string;
  client: { space: Space; address: string };
  a: MeshHost;
  b: MeshHost;
  a1: Endpoint;
  a2: Endpoint;
  shared: SharedState;
  store: Store;
  /** Another host, which asks the cluster's store through `through`. */
  hostWith(name: string, through: Partial<Store>): MeshHost;
}

/** Taken down with the test. */
export async function meshScene(t: Test): Promise<MeshScene> {
  const underlay = new Underlay();
  t.teardown(() => underlay.remove());
  const folder = t.testdir();
  const store = openSqliteStore(join(folder, 'store.db'), { clock: new VirtualClock(), log: silentLogger });
  t.teardown(() => store.close());
  const shared = new SharedState();
  const { space, address } = underlay.host(1, 1);
  const client = underlay.host(2, 2);
  space.run('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  const a = new MeshHost('a', space, shared, store, folder);
  const b = new MeshHost('b', underlay.space('b'), shared, store, folder);
  t.teardown(() => Promise.all([a, b].map((node) => node.close())));
  for (const [i, name] of ['a1', 'a2'].entries()) {
    const inside = underlay.space(name);
    const ip = `10.20.0.1${i + 1}`;
    space.rtnl.addLink({ kind: 'veth', name: `v${i}`, up: true, peer: { name: 'eth0', netns: inside.netns, up: true } });
    inside.run('ip', 'address', 'add', `${ip}/24`, 'dev', 'eth0');
    space.run('ip', 'address', 'add', '10.20.0.1/32', 'dev', `v${i}`);
    space.run('ip', 'route', 'add', `${ip}/32`, 'dev', `v${i}`);
    inside.run('ip', 'route', 'add', 'default', 'via', '10.20.0.1');
    const server = await serve(inside, name);
    t.teardown(() => server.kill());
  }
  const a1 = container('a1', '10.20.0.11', port(8080, 80), port(8080, 80, { protocol: 'udp' }));
  const a2 = container('a2', '10.20.0.12', port(8080, 80));
  const hostWith = (name: string, through: Partial<Store>): MeshHost => {
    const host = new MeshHost(name, underlay.space(name), shared, { ...store, ...through }, folder);
    t.teardown(() => host.close());
    return host;
  };
  return { underlay, space, address, client, a, b, a1, a2, shared, store, hostWith };
}
