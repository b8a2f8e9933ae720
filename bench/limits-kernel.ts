/**
 * One node of a cluster of N, for real: its fabric and one network in the kernel, the other nodes and their containers in
 * its soft state. The others' ends of the tunnels are sockets in a namespace of their own, which send what those nodes'
 * kernels would send.
 *
 *   node a ── router ── peers (172.20.0.0/16, a tunnel end each)
 *   [fabric: weft-in, web]
 *    backend
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { INGRESS_VNI, nodeMac } from '../drivers/overlay/addressing.ts';
import { Node } from '../drivers/overlay/testbed.ts';
import { SharedState, Underlay, network, nodeInfo, serve, type Space } from '../drivers/testbed.ts';
import { median, timed } from './figures.ts';

/** Of each node, all on one network. */
export const CONTAINERS = 10;
const REPAIRS = 7;
const LOOKUPS = 500;
/** At least; before as many that count, so that the first size is not measured while this program is slow yet. */
const ANSWERS = 600;
const TUNNEL_PORT = 4789;
const BACKEND = '10.20.0.9';
const BACKEND_PORT = 80;
const ANSWER_MS = 1_000;
/** The same client, from the same port, through every node. */
const CLIENT = { ip: '198.51.100.9', port: 5555 };

const bytesOf = (ip: string): number[] => ip.split('.').map(Number);
const vtepOf = (number: number): string => `172.20.${number >> 8}.${number & 255}`;
/** Of the nth container of a node; node 1 is the one that is measured. */
const containerIp = (number: number, n: number): string => {
  const index = number * CONTAINERS + n;
  return `10.20.${index >> 8}.${index & 255}`;
};

/** The namespace of all the others' tunnel ends. */
function addPeers(underlay: Underlay, last: number): Space {
  const space = underlay.space('peers');
  const gateway = '172.20.255.254';
  underlay.router.rtnl.addLink({ kind: 'veth', name: 'rp', up: true, peer: { name: 'eth0', netns: space.netns, up: true } });
  const leg = underlay.router.rtnl.link('rp')!.index;
  const dev = space.rtnl.link('eth0')!.index;
  underlay.router.rtnl.addAddress(leg, `${gateway}/32`);
  underlay.router.rtnl.replaceRoutes([{ dst: '172.20.0.0/16', dev: leg }]);
  for (let number = 2; number <= last; number++) space.rtnl.addAddress(dev, `${vtepOf(number)}/32`);
  space.rtnl.replaceRoutes([{ dst: `${gateway}/32`, dev }, { dst: 'default', via: gateway, dev, src: vtepOf(2) }]);
  return space;
}

const publishNode = (shared: SharedState, number: number): void => shared.of(`p${number}`).publish('node', 'self', nodeInfo(`p${number}`, number, vtepOf(number)));

function publishPeers(shared: SharedState, nodes: number, networkId: string): void {
  for (let number = 2; number <= nodes; number++) {
    publishNode(shared, number);
    const { publish } = shared.of(`p${number}`);
    for (let n = 0; n < CONTAINERS; n++) {
      const ip = containerIp(number, n);
      const mac = `02:42:${bytesOf(ip).map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
      publish('endpoint', `${number}-${n}`, { networkId, endpointId: `${number}-${n}`, ip, mac });
    }
  }
}

/** IPv4 header checksum (RFC 1071). */
function checksum(header: Buffer): number {
  let sum = 0;
  for (let i = 0; i < header.length; i += 2) sum += header.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** What the kernel of a node sends for a client's UDP packet to a backend on node 1 (RFC 7348 §5 and the frame inside). */
function forwarded(number: number): Buffer {
  const vxlan = Buffer.alloc(8);
  vxlan[0] = 0x08;
  vxlan.writeUIntBE(INGRESS_VNI, 4, 3);
  const ethernet = Buffer.concat([Buffer.from(`${nodeMac(1)}${nodeMac(number)}`.replaceAll(':', ''), 'hex'), Buffer.of(0x08, 0x00)]);
  const udp = Buffer.alloc(9);
  udp.writeUInt16BE(CLIENT.port, 0);
  udp.writeUInt16BE(BACKEND_PORT, 2);
  udp.writeUInt16BE(udp.length, 4);
  const ip = Buffer.from([0x45, 0, 0, 20 + udp.length, 0, 0, 0, 0, 64, 17, 0, 0, ...bytesOf(CLIENT.ip), ...bytesOf(BACKEND)]);
  ip.writeUInt16BE(checksum(ip), 10);
  return Buffer.concat([vxlan, ethernet, ip, udp]);
}

/** To the client's own port, in a packet from the tunnel (Ethernet 14, IPv4 20, UDP destination at 2). */
const isAnswer = (packet: Buffer): boolean => packet.length > 8 + 14 + 24 && packet.readUInt16BE(8 + 14 + 22) === CLIENT.port;

/** Bound in the namespace: with a look-up that answers at once, the socket is made within the call. */
async function socketAt(space: Space, address: string): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', lookup: (host, _, done) => done(null, host, 4) });
  const bound = once(socket, 'listening');
  space.netns.run(() => void socket.bind(TUNNEL_PORT, address));
  await bound;
  return socket;
}

/** Milliseconds from a node's packet to the answer that comes back to that node; undefined where none does. */
async function answerThrough(socket: Socket, number: number, to: string): Promise<number | undefined> {
  const start = performance.now();
  const answered = new Promise<number>((resolve) => {
    const look = (packet: Buffer): void => {
      if (!isAnswer(packet)) return;
      socket.off('message', look);
      resolve(performance.now() - start);
    };
    socket.on('message', look);
  });
  socket.send(forwarded(number), TUNNEL_PORT, to);
  return Promise.race([answered, new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), ANSWER_MS))]);
}

/** Slab of the whole machine, KiB: what else runs on it is in there as well. */
const slab = (): number => Number(/^Slab: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))![1]);

export async function measureKernel(nodes: number): Promise<Record<string, number>> {
  const underlay = new Underlay();
  const shared = new SharedState();
  const web = network('web', 'overlay', '10.20.0.0/16', { vni: 0x800001 });
  let node: Node | undefined;
  try {
    // One more: the newcomer.
    const peers = addPeers(underlay, nodes + 1);
    publishPeers(shared, nodes, web.id);
    node = new Node(underlay, shared, [web], 'a', 1, 1);
    const { driver } = node;
    const before = slab();
    const setUp = await timed(async () => {
      await driver.createNetwork(web);
      await node!.repair();
    });
    const kernel = slab() - before;
    const { rtnl, tunnel } = node.fabric;
    const repairs: number[] = [];
    for (let i = 0; i < REPAIRS; i++) {
      repairs.push(await timed(async () => {
        const found = await node!.repair();
        if (found.length > 0) throw new Error(`nothing was changed, and yet: ${found.join(', ')}`);
      }));
    }
    const counts = {
      rules: rtnl.rules().filter(({ priority }) => priority > 0 && priority < 32_766).length, routes: rtnl.routes({ dev: tunnel()! }).length,
      forwarding_entries: rtnl.links().filter(({ vxlan }) => vxlan).reduce((sum, { index }) => sum + rtnl.fdb(index).length, 0),
      neighbours: rtnl.links().filter(({ vxlan }) => vxlan).reduce((sum, { index }) => sum + rtnl.neighbours(index).length, 0),
    };
    const lookups: number[] = [];
    for (let i = 0; i < LOOKUPS; i++) lookups.push(await timed(async () => rtnl.routeTo('192.0.2.1')));

    const { container } = await node.attach('backend', web, BACKEND);
    driver.setBackends([{ ip: BACKEND, protocol: 'udp', port: BACKEND_PORT }]);
    const server = await serve(container, 'backend', BACKEND_PORT);
    const sockets = await Promise.all(Array.from({ length: nodes - 1 }, (_, i) => socketAt(peers, vtepOf(i + 2))));
    const answers: number[] = [];
    const answered = new Set<Socket>();
    try {
      const passes = 2 * Math.ceil(ANSWERS / sockets.length);
      for (let pass = 0; pass < passes; pass++) {
        for (const [i, socket] of sockets.entries()) {
          const took = await answerThrough(socket, i + 2, node.address);
          if (took === undefined || pass < passes / 2) continue;
          answered.add(socket);
          answers.push(took);
        }
      }
    } finally {
      for (const socket of sockets) socket.close();
      server.kill();
    }

    const newcomer = await timed(async () => {
      publishNode(shared, nodes + 1);
      await driver.ensureFabric();
    });
    await rtnl.deleteLink('weft-in');
    const mend = await timed(() => node!.repair());
    return {
      ...counts, setup_ms: setUp, repair_ms: median(repairs), newcomer_ms: newcomer, mend_ms: mend, route_lookup_us: median(lookups) * 1_000, kernel_kib: kernel,
      answered: answered.size, answer_us: median(answers) * 1_000,
    };
  } finally {
    await node?.purge();
    underlay.remove();
  }
}
