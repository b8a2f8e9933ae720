//   client 10.99.2.9 ── router ── (everything that crosses is looked at here)
//              /           \
//     host a 10.99.1.1    host b 10.99.2.2
//   [fabric]══WireGuard══[fabric]
//   s1  s3  p1            s2  p2            networks: secret 10.20.0.0/24, encrypted; plain 10.22.0.0/24
import { test } from 'tap';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import type { Network } from '../../cnm/model.ts';
import { ipToBytes, macToBytes } from '../../base/ip.ts';
import { systemClock as clock } from '../../base/clock.ts';
import { openPacketSocket } from '../../linux/packet-socket.ts';
import { openWireguard } from '../../linux/wireguard.ts';
import { SharedState, Underlay, capture, network, until } from '../testbed.ts';
import { sealedAddress } from './addressing.ts';
import { SEALED_LINK } from './encryption.ts';
import { generateKeyPair } from './key-pair.ts';
import { Node, type Container } from './testbed.ts';
import { openSealedProbe } from './tunnel-probe.ts';

const SECRET_VNI = 0x800001;
const PLAIN_VNI = 0x800002;
const MARKER = 'nobody is to read this';
const IPV4 = 0x0800;


/** Asks again and again, and prints the longest time without an answer, in milliseconds, when it is told to stop. */
const STREAM = `
const socket = require("net").connect(7, process.argv[1]);
let last = performance.now(), longest = 0, sent = 0, received = 0;
socket.on("connect", () => { last = performance.now(); console.log("up"); setInterval(() => { socket.write("x"); sent++; }, 20); });
socket.on("data", (data) => { const now = performance.now(); longest = Math.max(longest, now - last); last = now; received += data.length; });
process.on("SIGTERM", () => { console.log(JSON.stringify({ longest, behind: sent - received })); process.exit(); });
socket.on("close", () => console.log("closed"));`;
const ECHO = 'require("net").createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(Number(process.argv[1]), "0.0.0.0", () => console.log("up"));';
const NAME = 'require("net").createServer((socket) => socket.end(socket.remoteAddress)).listen(Number(process.argv[1]), "0.0.0.0", () => console.log("up"));';
/** As one datagram: bash itself would write line by line. */
const SEND = 'printf "$3" | dd bs=64k iflag=fullblock status=none > "/dev/udp/$1/$2"';
const escaped = (bytes: Buffer): string => [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');

/** UDP in IPv4 in an Ethernet frame in VXLAN: what an outsider would have a tunnel unpack. */
function sealedFrame(vni: number, to: Container, source: string, text: string): Buffer {
  const payload = Buffer.from(text);
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(9, 0);
  udp.writeUInt16BE(9, 2);
  udp.writeUInt16BE(8 + payload.length, 4);
  const ip = Buffer.concat([Buffer.of(0x45, 0, 0, 28 + payload.length, 0, 7, 0, 0, 64, 17, 0, 0), ipToBytes(source), ipToBytes(to.ip)]);
  let sum = 0;
  for (let at = 0; at < ip.length; at += 2) sum += ip.readUInt16BE(at);
  ip.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 10);
  const vxlan = Buffer.alloc(8);
  vxlan.writeUInt8(8, 0);
  vxlan.writeUIntBE(vni, 4, 3);
  return Buffer.concat([vxlan, macToBytes(to.endpoint.mac), macToBytes('02:42:0a:14:00:63'), Buffer.of(8, 0), ip, udp, payload]);
}

test('an encrypted network', async (t) => {
  const underlay = new Underlay();
  t.teardown(() => underlay.remove());
  const asked = openWireguard(underlay.router.netns);
  asked?.close();
  if (!asked) return void t.pass('skipped', { skip: 'this kernel has no WireGuard' });
  const secret = network('secret', 'overlay', '10.20.0.0/24', { vni: SECRET_VNI, options: { encrypted: '' } });
  const networks: Network[] = [secret, network('plain', 'overlay', '10.22.0.0/24', { vni: PLAIN_VNI })];
  const plain = networks[1]!;
  const shared = new SharedState();
  const a = new Node(underlay, shared, networks, 'a', 1, 1);
  const b = new Node(underlay, shared, networks, 'b', 2, 2);
  const client = underlay.host(9, 2);
  t.teardown(() => Promise.all([a, b].map((node) => node.purge())));
  a.driver.validate(secret);
  for (const node of [a, b]) for (const each of networks) await node.driver.createNetwork(each);
  const s1 = await a.attach('s1', secret, '10.20.0.11');
  const s3 = await a.attach('s3', secret, '10.20.0.13');
  const p1 = await a.attach('p1', plain, '10.22.0.11');
  const s2 = await b.attach('s2', secret, '10.20.0.21');
  const p2 = await b.attach('p2', plain, '10.22.0.21');
  for (const node of [a, b]) await node.repair();
  const servers = [s2.container.serve(process.execPath, '-e', ECHO, '7'), s2.container.serve(process.execPath, '-e', NAME, '80')];
  t.teardown(() => servers.forEach((server) => server.kill()));
  for (const server of servers) await until(() => server.out().includes('up'));
  const wireguard = { a: openWireguard(a.fabric.netns)!, b: openWireguard(b.fabric.netns)! };
  t.teardown(() => Object.values(wireguard).forEach((each) => each.close()));

  /** All that crosses between the hosts while `work` runs. */
  async function crossing(work: () => void | Promise<void>): Promise<Buffer[]> {
    const sockets = ['r1', 'r2'].map((name) => openPacketSocket(underlay.router.netns, underlay.router.rtnl.link(name)!.index, IPV4));
    try {
      await work();
      return sockets.flatMap((socket) => socket.receive());
    } finally {
      for (const socket of sockets) socket.close();
    }
  }
  const udpTo = (port: number) => (frame: Buffer): boolean => frame[23] === 17 && frame.readUInt16BE(36) === port;
  const received = async (by: Container, text: string, work: () => void): Promise<boolean> => {
    const socket = openPacketSocket(by.container.netns, by.container.rtnl.link('eth0')!.index, IPV4);
    work();
    await delay(200);
    const got = socket.receive().some((frame) => frame.includes(text));
    socket.close();
    return got;
  };

  await t.test('crosses sealed, and in no other way', async (t) => {
    t.ok(await until(() => s1.container.pings(s2.ip)));
    const frames = await crossing(() => {
      t.ok(s1.container.pings(s2.ip, '-s', '1362'), 'the largest packet that fits');
      s1.container.run(process.execPath, '-e', `const s = require("net").connect(7, "${s2.ip}"); s.on("data", (d) => { console.log(String(d)); s.end(); }); s.write("${MARKER}")`);
      t.ok(a.space.pings(s2.ip), 'from the host to a container of the other one');
    });
    t.equal(s1.container.rtnl.link('eth0')!.mtu, 1390);
    t.ok(frames.some(udpTo(7952)));
    t.same(frames.filter(udpTo(4789)), [], 'no VXLAN');
    t.same(frames.filter((frame) => frame.includes(MARKER)), [], 'no plaintext');
    t.same(frames.filter((frame) => (frame.readUInt16BE(20) & 0x3fff) !== 0), [], 'no fragments');
    t.ok((await crossing(() => void t.ok(p1.container.pings(p2.ip)))).some(udpTo(4789)), 'as a network beside it does that is not encrypted');
    t.same(a.driver.problems(), []);
    t.same(await a.repair(), [], 'nothing is wrong');
  });

  await t.test('a published port: between the hosts it is sealed, too, and the client is seen', async (t) => {
    a.space.run('nft', `add table ip probe; add chain ip probe pre { type nat hook prerouting priority dstnat - 10; }; add rule ip probe pre fib daddr type local tcp dport 8080 dnat to ${s2.ip}:80`);
    b.driver.setBackends([{ ip: s2.ip, protocol: 'tcp', port: 80 }]);
    let answer = '';
    const frames = await crossing(() => void (answer = client.space.run('timeout', '20', process.execPath, '-e', `require("net").connect(8080, "${a.address}").pipe(process.stdout)`)));
    t.equal(answer, '10.99.2.9');
    t.same(frames.filter(udpTo(4789)), []);
    b.driver.setBackends([]);
    a.space.run('nft', 'delete table ip probe');
  });

  await t.test('cleartext is not let in', async (t) => {
    const send = (from: { run(...command: string[]): string }, to: string, port: number, payload: Buffer): void => void from.run('bash', '-c', SEND, 'bash', to, String(port), escaped(payload));
    t.ok(await received(p2, 'plain in', () => send(a.space, b.address, 4789, sealedFrame(PLAIN_VNI, p2, '10.22.0.99', 'plain in'))), 'VXLAN of root of a member, for a network that is not encrypted, is');
    t.notOk(await received(s2, 'secret in', () => send(a.space, b.address, 4789, sealedFrame(SECRET_VNI, s2, '10.20.0.99', 'secret in'))), 'for one that is, is not');
    const inside = sealedFrame(SECRET_VNI, s3, '10.20.0.99', 'from inside');
    for (const to of ['10.20.0.1', sealedAddress(1)]) t.notOk(await received(s3, 'from inside', () => send(s1.container, to, 4789, inside)), `of a container, sent to ${to}`);
    a.inFabric('nft', 'flush', 'chain', 'inet', 'weft', 'sealed_input');
    t.ok(await received(s3, 'from inside', () => send(s1.container, '10.20.0.1', 4789, inside)), 'which a rule is for');
    t.match(await a.repair(), [/table inet weft of the fabric was changed/]);

    const injected = await capture(underlay.router, 'any', 'udp[8:4] = 0x696e6a65');
    for (const to of [a.address, b.address]) send(s1.container, to, 7952, Buffer.from('inject'));
    a.space.succeeds('setpriv', '--reuid=65534', 'bash', '-c', SEND, 'bash', b.address, '7952', escaped(Buffer.from('inject')));
    send(s1.container, sealedAddress(2), 9, Buffer.from('inject'));
    t.equal((await injected()).trim(), '', 'nor do containers and users of a host speak to WireGuard, or to what is inside of it');
  });

  await t.test('without the WireGuard link nothing leaves, and it is mended', async (t) => {
    await b.fabric.rtnl.deleteLink(SEALED_LINK);
    const frames = await crossing(() => void t.notOk(s2.container.pings(s1.ip)));
    t.same(frames.filter((frame) => udpTo(4789)(frame) || frame.includes(Buffer.from(ipToBytes(s1.ip)))), []);
    b.inFabric('nft', 'delete', 'table', 'inet', 'weft');
    t.same((await crossing(() => void s2.container.pings(s1.ip))).filter(udpTo(4789)), [], 'not even without rules there');
    t.match((await b.repair()).join('\n'), /link weft-wg was missing[^]*peers of WireGuard link weft-wg/);
    t.ok(await until(() => s2.container.pings(s1.ip)));
  });

  await t.test('what is changed by hand is mended; a restart changes nothing', async (t) => {
    const place = (): unknown => shared.of('b').list('node').find(({ owner }) => owner === 'a')!.value.wireguard;
    wireguard.a.set(SEALED_LINK, { removedPeers: [b.keys.publicKey], listenPort: 7000 });
    a.inFabric('ip', 'link', 'set', SEALED_LINK, 'mtu', '1300');
    t.match((await a.repair()).join('\n'), /link weft-wg had another mtu[^]*peers of WireGuard link weft-wg/);
    t.match(wireguard.a.get(SEALED_LINK), { listenPort: 7952, peers: [{ publicKey: b.keys.publicKey, endpoint: { address: b.address, port: 7952 }, keepaliveSeconds: 25 }] });
    t.ok(await until(() => s1.container.pings(s2.ip)));
    const before = wireguard.b.get(SEALED_LINK).peers[0]!.lastHandshake;
    a.stop();
    a.start();
    t.same(place(), { publicKey: a.keys.publicKey, port: 7952 }, 'what it says of itself is what is there');
    t.same(await a.repair(), []);
    t.ok(s1.container.pings(s2.ip));
    t.equal(wireguard.b.get(SEALED_LINK).peers[0]!.lastHandshake, before, 'in the same session');
  });

  await t.test('new keys while a stream runs', async (t) => {
    const stream = s1.container.serve(process.execPath, '-e', STREAM, s2.ip);
    t.teardown(() => stream.kill());
    await until(() => stream.out().includes('up'));
    for (const node of [a, b]) {
      await delay(500);
      const before = node.keys.publicKey;
      node.keys = generateKeyPair();
      await node.repair();
      await nextTurn();
      const other = wireguard[node === a ? 'b' : 'a'];
      t.ok(await until(() => other.get(SEALED_LINK).peers[0]?.publicKey === node.keys.publicKey), 'the other one knows the new key');
      t.notOk(other.get(SEALED_LINK).peers.some(({ publicKey }) => publicKey === before), 'and the old one no more');
    }
    await delay(1000);
    stream.kill();
    await until(() => stream.out().includes('longest'));
    const { longest, behind } = JSON.parse(/\{.*\}/.exec(stream.out())?.[0] ?? '{}') as { longest: number; behind: number };
    t.notMatch(stream.out(), /closed/);
    t.ok(longest < 3000, `the longest time without an answer: ${Math.round(longest)} ms; an attempt that fails is made again after 5 s`);
    t.ok(behind < 100, `${behind} bytes are on their way at the end`);
  });

  await t.test('behind address translation, with the next key as well', async (t) => {
    const behindRouter = (): boolean => wireguard.a.get(SEALED_LINK).peers[0]?.endpoint?.port === 40000;
    underlay.router.run('nft', [
      'add table ip translation', 'add chain ip translation out { type nat hook postrouting priority srcnat; }', 'add rule ip translation out ip saddr 10.99.2.2 udp sport 7952 masquerade to :40000',
      'add chain ip translation in { type filter hook forward priority filter; }', 'add rule ip translation in ip daddr 10.99.2.2 udp dport 7952 ct direction original drop',
    ].join('; '));
    t.ok(await until(() => s2.container.pings(s1.ip) && behindRouter()), 'b is heard from the router\'s address');
    b.keys = generateKeyPair();
    await b.repair();
    t.ok(await until(() => wireguard.a.get(SEALED_LINK).peers[0]?.publicKey === b.keys.publicKey && behindRouter()), 'and is looked for there');
    t.ok(await until(() => s1.container.pings(s2.ip)));
    underlay.router.run('nft', 'delete table ip translation');
    t.ok(await until(() => s2.container.pings(s1.ip) && !behindRouter()));
  });

  await t.test('whether the port is open is tried, each way by itself', async (t) => {
    const probe = async (nonce: string, wait: (atA: boolean, atB: boolean) => boolean): Promise<{ a: boolean; b: boolean }> => {
      const [atA, atB] = ([[a, 1, 2, 'b'], [b, 2, 1, 'a']] as const).map(([node, from, to, other]) =>
        openSealedProbe({ fabric: node.fabric.netns, tunnel: node.fabric.sealedTunnel()!, from, to, nonce: nonce.repeat(16), clock }, () => node.fabric.encryption.receivedFrom(other)));
      await until(() => wait(atA!.heard(), atB!.heard()));
      const result = { a: atA!.heard(), b: atB!.heard() };
      for (const each of [atA, atB]) each!.close();
      return result;
    };
    t.same(await probe('0', (atA, atB) => atA && atB), { a: true, b: true });
    b.space.run('nft', 'add table inet shut; add chain inet shut input { type filter hook input priority 0; }; add rule inet shut input udp dport 7952 drop');
    t.same(await probe('1', (atA) => atA), { a: true, b: false }, 'closed at b');
    b.space.run('nft', 'delete table inet shut');
    t.same(await probe('2', (atA, atB) => atA && atB), { a: true, b: true }, 'open again');
  });

  await t.test('a key that is nobody\'s, and that of a node that was removed, are refused', async (t) => {
    const handshake = (): number | undefined => wireguard.b.get(SEALED_LINK).peers[0]?.lastHandshake;
    t.ok(handshake());
    const known = handshake();
    wireguard.b.set(SEALED_LINK, { privateKey: generateKeyPair().privateKey });
    t.notOk(s2.container.pings(s1.ip));
    t.equal(handshake(), known, 'no handshake with a stranger\'s key');
    wireguard.b.set(SEALED_LINK, { privateKey: b.keys.privateKey });
    t.ok(await until(() => s2.container.pings(s1.ip)));

    shared.of('b').withdraw('node', 'self');
    t.ok(await until(() => wireguard.a.get(SEALED_LINK).peers.length === 0), 'its peer goes');
    const last = handshake();
    wireguard.b.set(SEALED_LINK, { privateKey: generateKeyPair().privateKey });
    wireguard.b.set(SEALED_LINK, { privateKey: b.keys.privateKey });
    t.notOk(s2.container.pings(s1.ip));
    t.equal(handshake(), last, 'and its key gets no answer');
  });

  await t.test('what is left without encrypted networks', async (t) => {
    networks.splice(networks.indexOf(secret), 1);
    for (const each of [s1, s3]) {
      await a.driver.deleteEndpoint(secret, each.endpoint);
      a.endpoints.splice(a.endpoints.indexOf(each.endpoint), 1);
    }
    await a.driver.deleteNetwork(secret);
    await a.repair();
    t.same(a.fabric.rtnl.links().filter(({ name, kind }) => kind === 'wireguard' || name === 'weft-in-wg'), []);
    t.equal(shared.of('a').list('node').find(({ owner }) => owner === 'a')!.value.wireguard, undefined);
    t.notMatch(a.inFabric('nft', 'list', 'ruleset'), /weft-wg/);
  });
});
