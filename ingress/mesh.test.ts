//            router
//   10.99.1.0/24 │ 10.99.2.0/24
//          ┌─────┴─────┐
//   host a 10.99.1.1  client 10.99.2.2        host b has no way here: only its part of the state is looked at
//      │      │
//     a1     a2      10.20.0.11, 10.20.0.12, wired to the host itself
import { setImmediate as nextTurn } from 'node:timers/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { weftError } from '../base/errors.ts';
import { ipToBytes } from '../base/ip.ts';
import { silentLogger } from '../base/log.ts';
import { seededRandom } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import type { Endpoint, PortMapping } from '../cnm/model.ts';
import { portKey } from '../cnm/ports.ts';
import { SharedState, type Space, Underlay, ask, askUdp, endpoint, network, nodeInfo, serve, until } from '../drivers/testbed.ts';
import { openNft } from '../linux/nft.ts';
import { openPacketSocket } from '../linux/packet-socket.ts';
import type { Nft } from '../linux/types.ts';
import { openLocalStore } from '../store/local.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { LocalStore, Store } from '../store/store.ts';
import { createPortClaims } from './claims.ts';
import type { Ingress } from './ingress.ts';
import { createMesh } from './mesh.ts';

const web = network('web', 'overlay', '10.20.0.0/24');
const port = (hostPort: number, containerPort: number, more: Partial<PortMapping> = {}): PortMapping => ({ protocol: 'tcp', hostIp: '', hostPort, containerPort, ...more });
const container = (name: string, ip: string, ...ports: PortMapping[]): Endpoint => endpoint(name, web, `${ip}/24`, { ports });

/** weftd's part of a host with published ports. */
class MeshHost {
  readonly name: string;
  readonly space: Space;
  readonly local: LocalStore;
  readonly forgotten: string[] = [];
  readonly warnings: string[] = [];
  backends: string[] = [];
  storeIsAway = false;
  nftFails = false;
  mesh!: Ingress;
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
      host: this.space.netns, state, local: this.local, claims: createPortClaims({ store: this.#store, local: this.local, node: this.name }),
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

/** An SCTP association's first packet (RFC 9260 §3.3.2), made by hand: the kernel's own sockets may not be there. */
function sendInit(from: Space, source: string, destination: string, port: number): void {
  const sctp = Buffer.alloc(32);
  sctp.writeUInt16BE(40_000, 0);
  sctp.writeUInt16BE(port, 2);
  // INIT, 20 bytes: tag, window, streams out and in, first TSN.
  sctp.set([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1], 12);
  sctp.writeUInt32LE(crc32c(sctp), 8);
  const ip = Buffer.alloc(20);
  ip.set([0x45, 0, 0, ip.length + sctp.length, 0, 0, 0x40, 0, 64, 132]);
  ip.set(ipToBytes(source), 12);
  ip.set(ipToBytes(destination), 16);
  const sum = [...Array(10).keys()].reduce((total, i) => total + ip.readUInt16BE(i * 2), 0);
  ip.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
  const device = from.rtnl.link('eth0')!;
  const gateway = /lladdr (\S+)/.exec(from.run('ip', 'neigh', 'show', 'dev', 'eth0'))![1]!;
  const mac = (text: string): number[] => text.split(':').map((part) => parseInt(part, 16));
  const socket = openPacketSocket(from.netns, device.index, 0x0800);
  socket.send(Buffer.concat([Buffer.from([...mac(gateway), ...mac(device.mac!), 0x08, 0x00]), ip, sctp]));
  socket.close();
}

/** Castagnoli's, as SCTP has it (RFC 9260 appendix A). */
function crc32c(data: Buffer): number {
  let crc = 0xffff_ffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test('published ports on every node', async (t) => {
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

  t.test('one backend: from outside it sees the caller, and the host itself reaches it', async (t) => {
    const passing = container('a0', '10.20.0.10', port(8079, 80));
    await a.publish(passing, 'passing');
    t.equal(askUdp(client.space, address, 8080), 'nothing');
    await a.revoke(passing);
    t.same(await a.publish(a1, 'api'), a1.ports);
    t.same(await a.publish(a1, 'api'), a1.ports, 'a repeat is answered the same');
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
    t.equal(ask(space, `${address}:8080`), `a1 ${address}`);
    t.equal(askUdp(client.space, address, 8080), `a1 ${client.address}`, 'and so does a UDP flow that began before');
    for (const node of [a, b]) t.same(node.list(), ['tcp/8080 api: node a 10.20.0.11:80', 'udp/8080 api: node a 10.20.0.11:80']);
    t.same(a.backends, ['tcp 10.20.0.11:80', 'udp 10.20.0.11:80'], 'the fabric lets others through to these');
    t.same(b.backends, []);
    t.match(b.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'slots-tcp-8080'), /10\.20\.0\.11 \. 80/, 'also on the other node');
    t.notOk(a.free(8080) || b.free(8080), 'programs of the hosts are told that the port is taken');
  });

  t.test('two of one service share; one of another is refused and leaves nothing', async (t) => {
    await a.publish(a2, 'api');
    const seen = new Set(Array.from({ length: 30 }, () => ask(client.space, `${address}:8080`)));
    t.same([...seen].sort(), [`a1 ${client.address}`, `a2 ${client.address}`]);
    const other = container('b1', '10.20.0.21', port(8081, 80), port(8080, 80));
    await t.rejects(b.publish(other, 'web'), { code: 'WEFT-PORT-HELD', message: /8080\/tcp belongs to service api/ });
    await until(() => b.free(8081));
    t.ok(b.free(8081), 'what it had before it was refused is given up');
    t.same(b.local.list('held/'), []);
    await a.publish(container('a3', '10.20.0.13', port(8081, 80)), 'web');
    await a.revoke(container('a3', ''));
  });

  t.test('who leaves gets nothing more; UDP flows are made to follow', async (t) => {
    await a.revoke(a1);
    await a.revoke(a1);
    t.same(a.forgotten, ['10.20.0.11:80'], 'also where nobody is left: whoever comes next is to be found');
    t.same([...new Set(Array.from({ length: 10 }, () => ask(client.space, `${address}:8080`)))], [`a2 ${client.address}`]);
    const two = ['c1', 'c2'].map((name, i) => container(name, `10.20.0.3${i}`, port(5300, 53, { protocol: 'udp' })));
    for (const each of two) await a.publish(each, 'dns');
    await a.revoke(two[0]!);
    t.same([a.forgotten, b.forgotten], [['10.20.0.11:80', '10.20.0.30:53'], ['10.20.0.11:80', '10.20.0.30:53']]);
    await a.revoke(two[1]!);
    await a.revoke(a2);
    t.same(a.list(), []);
    t.ok(a.free(8080) && b.free(8080));
    t.same((await store.range('ports/')).entries, []);
  });

  t.test('a port of the host\'s: refused where the container is, left out elsewhere until it is free', async (t) => {
    const holder = b.space.serve(process.execPath, '-e', 'require("net").createServer().listen(8080, "0.0.0.0", () => console.log("up"))');
    t.teardown(() => holder.kill());
    await until(() => holder.out().includes('up'));
    await t.rejects(b.publish(container('b1', '10.20.0.21', port(8080, 80)), 'api'), { code: 'WEFT-PORT-HOST', message: /8080\/tcp/ });
    await a.publish(a1, 'api');
    t.same(a.list(), ['tcp/8080 api: node a 10.20.0.11:80; not on b', 'udp/8080 api: node a 10.20.0.11:80']);
    t.notMatch(b.space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'ports'), /tcp \. 8080/, 'the program goes on being reached');
    holder.kill();
    await until(() => !b.space.run('busybox', 'netstat', '-ltn').includes(':8080 '));
    await b.mesh.repair();
    await nextTurn();
    t.same(a.list(), ['tcp/8080 api: node a 10.20.0.11:80', 'udp/8080 api: node a 10.20.0.11:80']);
    await a.revoke(a1);
  });

  t.test('a port left to us; addresses; families', async (t) => {
    const dynamic = container('d1', '10.20.0.41', port(0, 80, { hostIp: '0.0.0.0' }), port(0, 80, { hostIp: '::' }));
    const chosen = await a.publish(dynamic, 'd');
    t.equal(chosen.length, 1, 'named once for each family, published once');
    t.ok(chosen[0]!.hostPort >= 49152 && chosen[0]!.hostPort <= 65535, String(chosen[0]!.hostPort));
    t.same(await a.publish(dynamic, 'd'), chosen);
    const [other] = await b.publish(container('d2', '10.20.0.42', port(0, 80)), 'd2');
    t.not(other!.hostPort, chosen[0]!.hostPort, 'the same random numbers, another port');
    await t.rejects(a.publish(container('d3', '10.20.0.43', port(80, 80, { hostIp: '2001:db8::1' })), 'd'), { code: 'WEFT-FEATURE-MISSING' });
    t.same(await a.publish(container('d4', '10.20.0.44'), 'd'), [], 'without ports there is nothing to do');
    await a.revoke(dynamic);
    await b.revoke(container('d2', ''));
  });

  t.test('a range: each container gets the first port that is free on all nodes', async (t) => {
    const range = (containerPort: number, last: number, more: Partial<PortMapping> = {}): PortMapping => port(8000, containerPort, { hostPortEnd: last, ...more });
    const chosen = async (node: MeshHost, each: Endpoint, service: string): Promise<number[]> => (await node.publish(each, service)).map(({ hostPort }) => hostPort);
    const [r1, r2, r3, r4] = [1, 2, 3, 4].map((i) => container(`r${i}`, `10.20.0.6${i}`, range(80, 8002)));
    const both = await Promise.all([chosen(a, r1!, 'r'), chosen(b, r2!, 'r')]);
    t.same(both.flat().sort(), [8000, 8001], 'at the same moment, of one service, on two nodes: one each');
    t.same(await chosen(a, r3!, 'other'), [8002]);
    await t.rejects(b.publish(r4!, 'r'), { code: 'WEFT-PORT-RANGE', message: /8000-8002\/tcp/ });
    await a.revoke(r1!);
    t.same(await chosen(b, r4!, 'r'), both[0], 'what one gives up another gets');
    for (const [node, each] of [[b, r2], [a, r3], [b, r4]] as const) await node.revoke(each!);

    const mixed = container('r5', '10.20.0.65', port(0, 83), range(81, 8002), range(82, 8002), port(8000, 80), range(81, 8001, { protocol: 'udp' }));
    const got = new Map((await a.publish(mixed, 'r')).map((each) => [`${each.containerPort}/${each.protocol}`, each.hostPort]));
    t.same([80, 81, 82].map((each) => got.get(`${each}/tcp`)), [8000, 8001, 8002], 'those that leave no choice come first');
    t.equal(got.get('81/udp'), 8000);
    await a.revoke(mixed);
    await t.rejects(a.publish(container('r6', '10.20.0.66', port(8000, 80), port(8000, 81)), 'r'), { code: 'WEFT-PORT-TWICE', message: /8000\/tcp.*80 .*81 / });
    t.same((await store.range('ports/')).entries, []);
    await until(() => a.free(8000));
  });

  t.test('a host address: on this node alone, and 127.0.0.1 for its own programs only', async (t) => {
    const at = (hostIp: string, more: Partial<PortMapping> = {}): PortMapping => port(8080, 80, { hostIp, ...more });
    const bound = container('a1', '10.20.0.11', at(address), at('127.0.0.1', { hostPort: 8081 }), at('127.0.0.1', { hostPort: 8085, hostPortEnd: 8086 }));
    t.same((await a.publish(bound, 'api')).map(({ hostIp, hostPort }) => `${hostIp}:${hostPort}`), [`${address}:8080`, '127.0.0.1:8081', '127.0.0.1:8085']);
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
    t.equal(ask(space, `${address}:8080`), `a1 ${address}`);
    const listed = [`tcp/${address}:8080 api: node a 10.20.0.11:80`, 'tcp/127.0.0.1:8081 api: node a 10.20.0.11:80', 'tcp/127.0.0.1:8085 api: node a 10.20.0.11:80'].sort();
    for (const node of [a, b]) t.same(node.list(), listed, 'everybody knows');
    t.ok(b.free(8080), 'and nobody else publishes it');
    t.same(a.backends, [], 'nor lets others through to it');
    t.same((await store.range('ports/')).entries, [], 'so nobody has to be asked');

    // What 127.0.0.1 is asked, out of the host's own programs, is answered through the uplink, which is not here.
    t.match(space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'bound'), /127\.0\.0\.1 \. tcp \. 8081 : jump service-tcp-127\.0\.0\.1-8081/);
    for (const device of ['all', 'eth0']) space.run('sysctl', '-qw', `net.ipv4.conf.${device}.route_localnet=1`);
    client.space.run('ip', 'address', 'del', '127.0.0.1/8', 'dev', 'lo');
    client.space.run('ip', 'rule', 'add', 'pref', '5', 'lookup', '99');
    client.space.run('ip', 'route', 'add', '127.0.0.1', 'via', '10.99.2.202', 'dev', 'eth0', 'table', '99', 'onlink', 'src', client.address);
    underlay.router.run('ip', 'rule', 'add', 'pref', '5', 'lookup', '99');
    underlay.router.run('ip', 'rule', 'del', 'pref', '0');
    underlay.router.run('ip', 'rule', 'add', 'pref', '9', 'lookup', 'local');
    underlay.router.run('ip', 'route', 'add', '127.0.0.1', 'via', address, 'dev', 'r1', 'table', '99', 'onlink');
    for (const [where, device] of [[client.space, 'eth0'], [underlay.router, 'all'], [underlay.router, 'r2'], [underlay.router, 'r1']] as const) where.run('sysctl', '-qw', `net.ipv4.conf.${device}.route_localnet=1`);
    const counted = (): number => Number(/packets (\d+)/.exec(space.run('nft', 'list', 'table', 'inet', 'test'))![1]);
    space.run('nft', 'table inet test { chain c { type filter hook prerouting priority -400; iifname "eth0" ip daddr 127.0.0.1 counter; }; }');
    t.equal(ask(client.space, '127.0.0.1:8081'), 'nothing', 'from the wire');
    t.ok(counted() > 0, 'it did come to the host');
    space.run('nft', 'delete', 'table', 'inet', 'test');

    await t.rejects(a.publish(container('e1', '10.20.0.71', at('')), 'web'), { code: 'WEFT-PORT-HELD', message: /8080\/tcp belongs to service api/ }, 'every address, and one is in use');
    await t.rejects(a.publish(container('e2', '10.20.0.72', at(address)), 'web'), { code: 'WEFT-PORT-HELD', message: /belongs to service api/ });
    await t.rejects(a.publish(container('e3', '10.20.0.73', at('192.0.2.9')), 'web'), { code: 'WEFT-PORT-ADDRESS', message: /192\.0\.2\.9/ });
    const next = container('e4', '10.20.0.74', at(address, { hostPortEnd: 8082 }), at('', { hostPort: 8081, hostPortEnd: 8084 }));
    t.same((await a.publish(next, 'web')).map(({ hostIp, hostPort }) => `${hostIp}:${hostPort}`), [`${address}:8081`, ':8082'], 'ranges go past them');
    await a.revoke(next);

    const elsewhere = container('e5', '10.20.0.75', at(''));
    await b.publish(elsewhere, 'mesh');
    t.ok(a.list().includes('tcp/8080 mesh: node b 10.20.0.75:80; not on a'), 'another node may have it for all the others');
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
    await b.revoke(elsewhere);

    await a.mesh.close();
    a.start();
    await nextTurn();
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`, 'a restart changes nothing');
    t.same(await a.mesh.repair(), []);
    t.same(a.list(), listed);
    await a.revoke(bound);
    await until(() => a.free(8080) && a.free(8081));
    t.same(a.list(), []);
  });

  t.test('SCTP: the first packet comes to the backend', async (t) => {
    const reserved = container('s1', '10.20.0.11', port(9899, 99, { protocol: 'sctp' }));
    await a.publish(reserved, 's');
    t.same(b.list(), ['sctp/9899 s: node a 10.20.0.11:99']);
    await t.rejects(a.publish(container('s2', '10.20.0.12', port(9899, 99, { protocol: 'sctp', hostIp: address })), 's2'), { code: 'WEFT-PORT-HELD' }, 'its ports exclude each other');
    space.run('nft', 'table inet test { chain c { type filter hook postrouting priority 200; ip daddr 10.20.0.11 sctp dport 99 sctp chunk init exists counter; }; }');
    sendInit(client.space, client.address, address, 9899);
    await until(() => space.run('nft', 'list', 'table', 'inet', 'test').includes('packets 1 '));
    t.match(space.run('nft', 'list', 'table', 'inet', 'test'), /counter packets 1 /);
    space.run('nft', 'delete', 'table', 'inet', 'test');
    await a.revoke(reserved);
    t.same(b.list(), []);
  });

  t.test('nothing moves over a restart', async (t) => {
    await a.publish(a1, 'api');
    const before = space.run('nft', 'list', 'ruleset');
    await a.mesh.close();
    t.equal(ask(client.space, `${address}:8080`), `a1 ${client.address}`);
    shared.records.clear();
    a.storeIsAway = true;
    a.start();
    await nextTurn();
    t.equal(space.run('nft', 'list', 'ruleset'), before);
    t.same(await a.mesh.repair(), []);
    t.same(a.list(), ['tcp/8080 api: node a 10.20.0.11:80', 'udp/8080 api: node a 10.20.0.11:80'], 'told to the others again');
    t.same(await a.publish(a1, 'api'), a1.ports);
    await a.revoke(a1);
    a.storeIsAway = false;
    t.equal((await store.range('ports/')).entries.length, 2, 'what the store did not hear of');
    await a.mesh.repair();
    t.same((await store.range('ports/')).entries, [], 'it hears at the next repair');
  });

  t.test('what was broken, and what could not be done, is mended', async (t) => {
    await a.publish(a1, 'api');
    space.run('nft', 'flush', 'ruleset');
    t.match(await a.mesh.repair(), [{ what: /made anew/ }]);
    a.nftFails = true;
    await a.publish(a2, 'api');
    t.match(a.warnings, [/tried again at the next repair/]);
    a.nftFails = false;
    await a.mesh.repair();
    await nextTurn();
    t.match(space.run('nft', 'list', 'map', 'inet', 'weft-ports', 'slots-tcp-8080'), /10\.20\.0\.12 \. 80/);
    for (const each of [a1, a2]) await a.revoke(each);
  });

  t.test('others who come and go do not take away what is being published', async (t) => {
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const slow = new MeshHost('slow', underlay.space('slow'), shared, {
      ...store,
      txn: async (compares, writes) => {
        if (compares[0]!.key === 'ports/tcp/9002') {
          reached.resolve();
          await gate.promise;
        }
        return store.txn(compares, writes);
      },
    }, folder);
    t.teardown(() => slow.close());
    const passing = container('p1', '10.20.0.51', port(9000, 80));
    await slow.publish(passing, 'p');
    const publishing = slow.publish(container('p2', '10.20.0.52', port(9001, 80), port(9002, 80)), 'q');
    await reached.promise;
    await slow.revoke(passing);
    await slow.mesh.repair();
    await nextTurn();
    t.notOk(slow.free(9001), 'it is held on the host');
    t.ok((await store.get('ports/tcp/9001')), 'and in the cluster');
    t.notOk(await store.get('ports/tcp/9000'), 'while what went is given up');

    const gone = slow.mesh.revoke(container('p2', '').id);
    gate.resolve();
    await publishing;
    await gone;
    await until(() => slow.free(9001));
    t.same(slow.list(), [], 'a revocation that comes meanwhile is not forgotten');
    t.same(slow.local.list('published/'), []);
  });
});
