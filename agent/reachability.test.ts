import { X509Certificate } from 'node:crypto';
import { test } from 'tap';
import { systemRandom as random } from '../base/random.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAuthority, issueCertificate, newKey, requestCertificate } from '../cluster/identity/authority.ts';
import { SharedState, nodeInfo } from '../drivers/testbed.ts';
import { Keyring } from '../gossip/keyring.ts';
import { openNft } from '../linux/nft.ts';
import { space } from '../linux/testing.ts';
import { createReachability } from './reachability.ts';

test('what a node answers to others, and asks of whom', async (t) => {
  const { netns, run } = space(t);
  run('iptables', '-P', 'INPUT', 'DROP');
  const hostNft = openNft(netns);
  t.teardown(() => hostNft.close());
  const clock = new VirtualClock();
  const info = nodeInfo('a', 1, '10.0.0.1');
  const state = new SharedState().of('a');
  const reachability = createReachability({
    self: () => info, state, nodes: () => [{ id: 'a', name: 'a', address: '10.0.0.1', number: 1, self: true, state: 'alive' }], identity: () => ({ authority: '', certificate: '', key: '' }),
    ports: { gossip: 7947, tunnel: 4789, encryption: 7952, store: 7948, storePeers: 7949 }, storeHolders: () => undefined, mayHoldStore: () => false,
    keyring: new Keyring(Buffer.alloc(32)), fabric: { netns, tunnel: () => undefined, sealedTunnel: () => undefined, encryption: { problem: () => undefined, lookAgain: () => {}, silent: () => [], receivedFrom: () => 0 } }, hostNft, clock, random,
  });
  const authority = await createAuthority();
  const caller = new X509Certificate(await issueCertificate(authority, await requestCertificate(await newKey()), { node: { id: 'b'.repeat(16), addresses: ['10.0.0.2'] }, lifetimeMs: 3_600_000, now: Date.now() }));

  t.same(await reachability.answer({ address: '10.0.0.2' }, caller), { firewalls: [{ kind: 'iptables', program: 'iptables' }] }, 'which firewall it has, and nothing is tried');
  await t.rejects(reachability.answer({ address: '10.0.0.3' }, caller), { code: 'WEFT-INPUT-MALFORMED', message: /not for 10\.0\.0\.3/ }, 'nobody has it try the ports of a third');
  for (const body of [undefined, {}, { address: 'x' }, { address: '10.0.0.2', ports: { gossip: 0, store: [], nonce: '0'.repeat(16) } }, { address: '10.0.0.2', more: 1 }]) {
    await t.rejects(reachability.answer(body, caller), { code: 'WEFT-INPUT-MALFORMED' }, JSON.stringify(body));
  }
  await t.rejects(reachability.probe('nobody'), { code: 'WEFT-NODE-UNKNOWN' });
  const alone = t.rejects(reachability.probe(), { code: 'WEFT-STORE-ALONE' }, 'after it has waited for others');
  await clock.advance(10_000);
  await alone;
});
