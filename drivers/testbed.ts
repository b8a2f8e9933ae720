/** Hosts for the drivers' tests: namespaces on two routed subnets, and soft state that is simply shared. */
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { firstHost, parsePrefix } from '../base/prefix.ts';
import type { NodeInfo, SoftState, StateChange, StateRecord, TableName } from '../cluster/state.ts';
import type { Endpoint, JoinAnswer, Network } from '../cnm/model.ts';
import { plug } from '../cnm/sandbox.ts';
import { createNetns, deleteNetns, openNetns } from '../linux/netns.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import type { Netns, Rtnl } from '../linux/types.ts';
import type { PacketSocket } from '../linux/packet-socket.ts';
import type { Journal } from './host-sysctls.ts';

let count = 0;

/** As weftd's own, but in a map. */
export const rememberIn = (journal: Map<string, string>): Journal => (name, before) => {
  if (!journal.has(name)) journal.set(name, before);
  return journal.get(name)!;
};

export class Space {
  readonly name: string;
  readonly path: string;
  readonly netns: Netns;
  readonly rtnl: Rtnl;

  constructor(label: string) {
    this.name = `weft-d-${process.pid}-${count++}-${label}`;
    this.path = `/run/netns/${this.name}`;
    this.netns = createNetns(this.path);
    this.rtnl = openRtnl(this.netns);
    this.rtnl.setLink(this.rtnl.link('lo')!.index, { up: true });
  }

  /** Standard output; throws when the command fails. */
  run(...command: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.name, ...command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Runs on meanwhile; resolves with its standard output, however it ended. */
  start(...command: string[]): Promise<string> {
    return promisify(execFile)('ip', ['netns', 'exec', this.name, ...command]).then(({ stdout }) => stdout, (error: { stdout: string }) => error.stdout);
  }

  /** Runs on until it is killed; `out` is what it has printed so far. */
  serve(...command: string[]): { out(): string; kill(): void } {
    const child = spawn('ip', ['netns', 'exec', this.name, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return { out: () => text, kill: () => void child.kill() };
  }

  succeeds(...command: string[]): boolean {
    return spawnSync('ip', ['netns', 'exec', this.name, ...command], { stdio: 'ignore' }).status === 0;
  }

  pings(ip: string, ...more: string[]): boolean {
    return this.succeeds('busybox', 'ping', '-c', '1', '-W', '1', ...more, ip);
  }

  /** Links, routes, rules and settings, without what moves by itself. */
  snapshot(): string {
    return [
      this.run('ip', '-o', 'link').replaceAll(/ state [A-Z]+/g, ''), this.run('ip', '-4', 'route', 'show', 'table', 'all'), this.run('ip', 'rule'), this.run('nft', '--stateless', 'list', 'ruleset'),
      this.run('sysctl', '-a', '--pattern', String.raw`^net\.(ipv4\.(ip_forward|conf)|bridge|ipv6\.conf)`),
    ].join('\n');
  }

  remove(): void {
    this.rtnl.close();
    this.netns.close();
    deleteNetns(this.path);
  }
}

/** A router with a leg in each subnet, and hosts on them; the router is what a reader of a capture looks from. */
export class Underlay {
  readonly router = new Space('router');
  readonly spaces: Space[] = [this.router];

  constructor() {
    writeSysctl(this.router.netns, 'net/ipv4/ip_forward', '1');
  }

  /** `subnet` is 1 or 2: the host gets 10.99.SUBNET.NUMBER. */
  host(number: number, subnet: number): { space: Space; address: string } {
    const space = this.space(`h${number}`);
    const gateway = `10.99.${subnet}.${200 + number}`;
    const address = `10.99.${subnet}.${number}`;
    this.router.rtnl.addLink({ kind: 'veth', name: `r${number}`, up: true, peer: { name: 'eth0', netns: space.netns, up: true } });
    this.router.rtnl.addAddress(this.router.rtnl.link(`r${number}`)!.index, `${gateway}/32`);
    this.router.rtnl.replaceRoutes([{ dst: `${address}/32`, dev: this.router.rtnl.link(`r${number}`)!.index }]);
    const dev = space.rtnl.link('eth0')!.index;
    space.rtnl.addAddress(dev, `${address}/32`);
    space.rtnl.replaceRoutes([{ dst: `${gateway}/32`, dev }, { dst: 'default', via: gateway, dev, src: address }]);
    return { space, address };
  }

  /** Besides, the host gets fd99:SUBNET::NUMBER and a way out by it. Returns the address. */
  addIpv6({ space }: { space: Space }, number: number, subnet: number): string {
    const address = `fd99:${subnet}::${number}`;
    const gateway = 'fe80::99';
    writeSysctl(this.router.netns, 'net/ipv6/conf/all/forwarding', '1');
    const port = this.router.rtnl.link(`r${number}`)!.index;
    this.router.rtnl.addAddress(port, `${gateway}/64`);
    const dev = space.rtnl.link('eth0')!.index;
    space.rtnl.addAddress(dev, `${address}/128`);
    this.router.rtnl.replaceRoutes([{ dst: `${address}/128`, dev: port }]);
    space.rtnl.replaceRoutes([{ dst: 'default', via: gateway, dev, metric: 1024 }]);
    return address;
  }

  space(label: string): Space {
    const space = new Space(label);
    this.spaces.push(space);
    return space;
  }

  remove(): void {
    for (const space of this.spaces) space.remove();
  }
}

/** One table of records for all nodes: what one publishes, all see at once. */
export class SharedState {
  readonly records = new Map<string, StateRecord<TableName>>();
  readonly watchers: { self: string; table: TableName; call: (change: StateChange<TableName>) => void }[] = [];
  readonly dead = new Set<string>();

  of(self: string): SoftState {
    const emit = (change: StateChange<TableName>): void => {
      for (const watcher of this.watchers) if (watcher.table === change.record.table) watcher.call({ ...change, local: watcher.self === change.record.owner });
    };
    return {
      self,
      publish: (table, key, value) => {
        const id = `${table} ${self} ${key}`;
        const previous = this.records.get(id)?.value;
        const record = { table, key, owner: self, value } as StateRecord<TableName>;
        this.records.set(id, record);
        emit({ type: 'put', record, previous: previous as never, local: false });
      },
      withdraw: (table, key) => {
        const record = this.records.get(`${table} ${self} ${key}`);
        this.records.delete(`${table} ${self} ${key}`);
        if (record) emit({ type: 'delete', record, local: false });
      },
      list: <T extends TableName>(table: T) => [...this.records.values()].filter((record) => record.table === table) as unknown as StateRecord<T>[],
      watch: <T extends TableName>(table: T, onChange: (change: StateChange<T>) => void) => {
        const watcher = { self, table, call: onChange as (change: StateChange<TableName>) => void };
        for (const record of this.records.values()) {
          if (record.table === table) watcher.call({ type: 'put', record, previous: undefined as never, local: record.owner === self });
        }
        this.watchers.push(watcher);
        return () => void this.watchers.splice(this.watchers.indexOf(watcher), 1);
      },
      members: () => [...new Set([...this.records.values()].map(({ owner }) => owner))].map((id) => ({ id, name: id, state: this.dead.has(id) ? 'dead' : 'alive', address: '' })),
    };
  }
}

export const hex = (seed: string, length = 64): string => Buffer.from(seed.repeat(length)).toString('hex').slice(0, length);

export function network(name: string, driver: string, subnet: string, more: Partial<Network> = {}): Network {
  return {
    id: hex(name), name, driver, scope: driver === 'overlay' ? 'cluster' : 'node', node: 'a', ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false,
    subnets: [{ subnet, gateway: firstHost(parsePrefix(subnet)!) }], createdAt: '', ...more,
  };
}

export function endpoint(name: string, on: Network, address: string, more: Partial<Endpoint> = {}): Endpoint {
  const isIpv4 = address.includes('.');
  const bytes = isIpv4 ? address.split('/')[0]!.split('.').map(Number) : [...Buffer.from(name.padEnd(4))].slice(0, 4);
  const mac = `02:42:${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
  return { id: hex(name), networkId: on.id, ...(isIpv4 ? { address } : { addressIpv6: address }), mac, ports: [], options: {}, createdAt: '', ...more };
}

export const nodeInfo = (id: string, number: number, vtep: string): NodeInfo => ({ id, name: id, number, vtep, underlayMtu: 1500, occupied: [], skippedPorts: [] });

/** What Docker does with a Join answer. */
export const plugIn = (host: Space, container: Space, joined: Endpoint, answer: JoinAnswer): Promise<string> =>
  plug({ host: host.rtnl, openNetns, openRtnl }, { ...joined, sandbox: container.path }, answer);

/** Polls, since kernel events come when they come. */
export async function until(condition: () => boolean, limitMs = 5_000): Promise<boolean> {
  for (const end = performance.now() + limitMs; performance.now() < end && !condition();) await delay(10);
  return condition();
}

const SERVER = `
const [name, port] = process.argv.slice(1);
const udp = require("dgram").createSocket("udp4");
udp.on("message", (_, { address, port }) => udp.send(name + " " + address, port, address)).bind(port, () =>
  require("http").createServer((request, response) => response.end(name + " " + request.socket.remoteAddress)).listen(port, "0.0.0.0", () => console.log("up")));`;

/** Answers on a port, TCP and UDP, with its own name and the caller's address. */
export async function serve(space: Space, name: string, port = 80): Promise<{ kill(): void }> {
  const server = space.serve(process.execPath, '-e', SERVER, name, String(port));
  await until(() => server.out().includes('up'));
  return server;
}

function answer(space: Space, ...command: string[]): string {
  try {
    return space.run(...command).trim();
  } catch {
    return 'nothing';
  }
}

/** What a server says to somebody in the namespace; 'nothing' where none can be reached within a second. */
export const ask = (from: Space, address: string): string => answer(from, 'curl', '-s', '--connect-timeout', '1', '-m', '5', `http://${address}/`);

const UDP_CLIENT = `
const socket = require("dgram").createSocket("udp4");
socket.on("message", (text) => process.exit(console.log(String(text)))).on("error", () => process.exit(1));
socket.bind(5555, () => socket.send("?", Number(process.argv[2]), process.argv[1]));
setTimeout(() => process.exit(1), 1_500);`;

/** The same by UDP, always from the same port, so that it is one flow. */
export const askUdp = (from: Space, address: string, port: number): string => answer(from, process.execPath, '-e', UDP_CLIENT, address, String(port));

/** What tcpdump sees from now on; the answer stops it and gives its text. */
export async function capture(space: Space, device: string, filter: string, ...options: string[]): Promise<() => Promise<string>> {
  const child = spawn('ip', ['netns', 'exec', space.name, 'tcpdump', '-nn', '-l', '--immediate-mode', '-i', device, ...options, filter], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await once(child.stderr, 'data');
  return async () => {
    await delay(200);
    child.kill('SIGINT');
    await once(child, 'exit');
    return text;
  };
}

/** Whether what one sends comes to the other. Bridges and programs work inside the send: what has not come a moment later never does. */
export async function passes(sender: PacketSocket, receiver: PacketSocket, sent: Buffer): Promise<boolean> {
  receiver.receive();
  sender.send(sent);
  for (let i = 0; i < 5; i++) {
    if (receiver.receive().some((each) => each.subarray(0, sent.length).equals(sent))) return true;
    await new Promise((done) => void setTimeout(done, 2));
  }
  return false;
}
