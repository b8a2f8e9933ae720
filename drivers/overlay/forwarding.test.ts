// Two comparisons of one network at once: a repair's, and that of a container whose start brings another tunnel.
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { space } from '../../linux/testing.ts';
import { overlayTunnel } from '../names.ts';
import { SharedState, network, nodeInfo } from '../testbed.ts';
import { createForwarding } from './forwarding.ts';

const web = network('web', 'overlay', '10.20.0.0/16', { vni: 0x800001 });
const ENDPOINTS = 200;

test('comparisons of one network do not undo each other\'s work', async (t) => {
  const { rtnl } = space(t);
  const shared = new SharedState();
  const node = nodeInfo('b', 2, '10.99.1.2');
  for (let i = 0; i < ENDPOINTS; i++) {
    const [ip, mac] = [`10.20.1.${i}`, `02:42:0a:14:01:${i.toString(16).padStart(2, '0')}`];
    shared.of('b').publish('endpoint', `e${i}`, { networkId: web.id, endpointId: `e${i}`, ip, mac });
  }
  const forwarding = createForwarding({
    nodePrefix: '10.255.0.0/16', rtnl, state: shared.of('a'), networks: () => [web], node: () => node, nodes: () => [node], uplinkTunnel: () => undefined, remotes: () => undefined, ipv6: () => false,
    clock: systemClock, log: silentLogger,
  });
  t.teardown(() => forwarding.close());

  const bridge = rtnl.addLink({ kind: 'bridge', name: 'wb-x', up: true });
  const addTunnel = (): number => rtnl.addLink({ kind: 'vxlan', name: overlayTunnel(web.id), vni: web.vni!, local: '10.99.1.1', port: 4789, master: bridge, up: true });
  const former = addTunnel();
  await forwarding.ensure(web, []);
  t.equal(rtnl.neighbours(former).length, ENDPOINTS);

  const { neighbours } = rtnl.large;
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  rtnl.large.neighbours = async (dev) => {
    const all = await neighbours(dev);
    rtnl.large.neighbours = neighbours;
    await released;
    return all;
  };
  const ofFormer = forwarding.ensure(web, []);
  await delay(50);
  await rtnl.deleteLink(former);
  const dev = addTunnel();
  const ofNext = forwarding.ensure(web, []);
  await delay(50);
  release();
  await Promise.all([ofFormer, ofNext]);
  t.equal(rtnl.neighbours(dev).length, ENDPOINTS);
  t.equal(rtnl.fdb(dev).length, ENDPOINTS);
  shared.of('b').withdraw('endpoint', 'e0');
  await nextTurn();
  t.equal(rtnl.neighbours(dev).length, ENDPOINTS - 1, 'what is known to be in the kernel is what the later one found');

  const waiting = [forwarding.ensure(web, []), forwarding.ensure(web, [])];
  forwarding.forget(web.id);
  await rtnl.deleteLink(dev);
  await Promise.all(waiting);
  t.pass('a network that goes is compared no more, also by those that had to wait');
});
