//   a ══ b        a veth pair; on each side a WireGuard link, where this kernel has any
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'tap';
import { space, type Space } from './testing.ts';
import { openWireguard } from './wireguard.ts';

/** Raw keys of Curve25519 (RFC 7748), in base 64. */
function keyPair(): { publicKey: string; privateKey: string } {
  const { x, d } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  const base64 = (text: string | undefined): string => Buffer.from(text!, 'base64url').toString('base64');
  return { publicKey: base64(x), privateKey: base64(d) };
}

const pings = ({ run }: Space, ip: string): boolean => {
  try {
    return run('busybox', 'ping', '-c', '1', '-W', '2', ip).includes('1 packets received');
  } catch {
    return false;
  }
};

test('WireGuard', async (t) => {
  const [host, inside, other] = [space(t), space(t), space(t)];
  const wireguard = openWireguard(inside.netns);
  if (!wireguard) {
    t.throws(() => host.rtnl.addLink({ kind: 'wireguard', name: 'wg0' }), { code: 'EOPNOTSUPP' }, 'no family, no links');
    return;
  }
  t.teardown(() => wireguard.close());
  await t.test('a link that is born elsewhere sends from here', async (t) => {
    host.rtnl.addLink({ kind: 'veth', name: 'eth0', up: true, peer: { name: 'eth0', netns: other.netns, up: true } });
    for (const [i, { rtnl }] of [host, other].entries()) rtnl.addAddress(rtnl.link('eth0')!.index, `10.1.0.${i + 1}/24`);
    const remote = openWireguard(other.netns)!;
    t.teardown(() => remote.close());
    const [mine, yours, stranger] = [keyPair(), keyPair(), keyPair()];
    const near = host.rtnl.addLink({ kind: 'wireguard', name: 'wg0', mtu: 1400, netns: inside.netns });
    const far = other.rtnl.addLink({ kind: 'wireguard', name: 'wg0', mtu: 1400 });
    t.match(inside.rtnl.link('wg0'), { kind: 'wireguard', mtu: 1400, index: near });
    t.throws(() => wireguard.get('wg1'), { code: 'ENODEV' });
    wireguard.set('wg0', { privateKey: mine.privateKey, listenPort: 7952, peers: [{ publicKey: yours.publicKey, allowedIps: ['240.0.0.2/32'], endpoint: { address: '10.1.0.2', port: 7952 }, keepaliveSeconds: 25 }] });
    remote.set('wg0', { privateKey: yours.privateKey, listenPort: 7952, peers: [{ publicKey: mine.publicKey, allowedIps: ['240.0.0.1/32'], keepaliveSeconds: 0 }] });
    // Who answers is up first: what is lost of a handshake is sent again after five seconds.
    for (const [index, { rtnl }, ip] of [[far, other, '240.0.0.2'], [near, inside, '240.0.0.1']] as const) {
      rtnl.addAddress(index, `${ip}/16`);
      rtnl.setLink(index, { up: true });
    }
    t.ok(pings(inside, '240.0.0.2'));
    t.match(wireguard.get('wg0'), { publicKey: mine.publicKey, listenPort: 7952, peers: [{ publicKey: yours.publicKey, allowedIps: ['240.0.0.2/32'], endpoint: { address: '10.1.0.2', port: 7952 }, keepaliveSeconds: 25 }] });
    t.ok(Math.abs(wireguard.get('wg0').peers[0]!.lastHandshake! - Date.now()) < 60_000);
    t.match(remote.get('wg0').peers[0]!.endpoint, { address: '10.1.0.1', port: 7952 }, 'heard from the host\'s address');

    wireguard.set('wg0', { privateKey: stranger.privateKey });
    t.notOk(pings(inside, '240.0.0.2'), 'a key that the other side does not know gets no answer');
    remote.set('wg0', { removedPeers: [mine.publicKey], peers: [{ publicKey: stranger.publicKey, allowedIps: ['240.0.0.1/32'], endpoint: { address: '10.1.0.1', port: 7952 }, keepaliveSeconds: 25 }] });
    t.ok(pings(other, '240.0.0.1'), 'until it does');
    t.same(remote.get('wg0').peers.map(({ publicKey }) => publicKey), [stranger.publicKey]);
  });
});
