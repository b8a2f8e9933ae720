import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { weftError } from '../base/errors.ts';
import { silentLogger } from '../base/log.ts';
import { createController, type Controller, type EndpointRequest } from './controller.ts';
import type { Driver, Repair } from './driver.ts';
import type { Endpoint, JoinAnswer, Network } from './model.ts';

const network = (id: string, driver = 'fake'): Network => ({
  id, name: id, driver, scope: 'node', node: 'n', subnets: [], ipam: 'weft', internal: false, options: {}, labels: {}, attachable: false, createdAt: '',
});

/** Everything around a controller, which writes down what is asked of it; calls can be made to fail or to wait. */
class Scene {
  readonly calls: string[] = [];
  readonly networks = new Map([network('web'), network('dbs'), network('odd', 'other')].map((each) => [each.id, each]));
  /** What is on disk: a restart finds it again. */
  readonly endpoints = new Map<string, Endpoint>();
  readonly failing = new Set<string>();
  readonly waiting = new Map<string, Promise<void>>();
  readonly warnings: string[] = [];
  controller: Controller = this.start();

  async #call(what: string): Promise<void> {
    this.calls.push(what);
    await this.waiting.get(what);
    if (this.failing.has(what)) throw weftError('WEFT-KERNEL', { what, detail: 'EIO' });
  }

  #driver(name: string): Driver {
    const call = (what: string) => (on: Network, endpoint?: Endpoint): Promise<void> => this.#call([what, on.id, endpoint?.id].filter((part) => part !== undefined).join(' '));
    return {
      name, scope: 'node',
      validate: ({ options }) => {
        if (options['bad'] !== undefined) throw weftError('WEFT-OPTION-UNKNOWN', { driver: name, option: 'bad', hint: '' });
      },
      createNetwork: call('create'), deleteNetwork: call('delete'), createEndpoint: call('attach'), deleteEndpoint: call('detach'), leave: call('leave'),
      join: async (on, endpoint): Promise<JoinAnswer> => {
        await call('join')(on, endpoint);
        return { sourceName: `wc-${endpoint.id}`, prefix: 'eth', routes: [] };
      },
      ...(name === 'other' && { sharedMac: () => '00:11:22:33:44:55' }),
      repair: async (networks, endpoints): Promise<Repair[]> => {
        await this.#call(`repair ${name}`);
        return [{ what: `${name}: ${networks.map(({ id }) => id).join()} | ${endpoints.map(({ id }) => id).join()}` }];
      },
    };
  }

  start(): Controller {
    const { endpoints } = this;
    return this.controller = createController({
      drivers: [this.#driver('fake'), this.#driver('other')],
      networks: { get: (id) => this.networks.get(id), list: () => [...this.networks.values()] },
      endpoints: {
        get: (id) => endpoints.get(id), list: () => [...endpoints.values()],
        put: (endpoint) => {
          this.calls.push(`put ${endpoint.id}${endpoint.sandbox === undefined ? '' : ` in ${endpoint.sandbox}`}`);
          endpoints.set(endpoint.id, endpoint);
        },
        delete: (id) => {
          this.calls.push(`forget ${id}`);
          endpoints.delete(id);
        },
      },
      addresses: {
        claim: async (on, id, family, wanted) => {
          if (family === 6 && on.id !== 'dual') return undefined;
          await this.#call(`claim for ${id}${family === 6 ? ' in IPv6' : ''}`);
          if (family === 6) return wanted ?? 'fd20::1:2:9/64';
          return wanted ?? '10.20.0.9/24';
        },
        holderOf: () => 'docker-1',
        release: async (_, { address, addressIpv6 }) => this.#call(`release ${[address, addressIpv6].filter((each) => each !== undefined).join(' ')}`),
      },
      events: {
        joined: (_, { id, sandbox }) => void this.calls.push(`joined ${id} ${sandbox}`),
        left: (_, { id, sandbox }) => void this.calls.push(`left ${id} ${sandbox}`),
      },
      log: { ...silentLogger, warn: (_, message) => void this.warnings.push(message ?? '') },
    });
  }

  /** What was asked since the last time. */
  take(): string[] {
    return this.calls.splice(0);
  }

  hold(what: string): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.waiting.set(what, promise);
    return () => {
      this.waiting.delete(what);
      resolve();
    };
  }

  attach(id: string, more: Partial<EndpointRequest> = {}): Promise<Endpoint> {
    return this.controller.createEndpoint({ networkId: 'web', id, ...more });
  }
}

test('a life: what is on disk is on disk before the kernel has it and before the answer', async (t) => {
  const scene = new Scene();
  const { controller } = scene;
  await controller.createNetwork(network('web'));
  const endpoint = await scene.attach('e1');
  t.match(endpoint, { id: 'e1', networkId: 'web', address: '10.20.0.9/24', mac: '02:42:0a:14:00:09', ports: [], options: {} });
  t.match(await controller.join('e1', '/run/netns/c1'), { sourceName: 'wc-e1', prefix: 'eth' });
  await controller.leave('e1');
  await controller.deleteEndpoint('e1');
  await controller.deleteNetwork(network('web'));
  t.same(scene.take(), [
    'create web',
    'claim for e1', 'put e1', 'attach web e1',
    'join web e1', 'put e1 in /run/netns/c1', 'joined e1 /run/netns/c1',
    'put e1', 'left e1 /run/netns/c1', 'leave web e1',
    'detach web e1', 'release 10.20.0.9/24', 'forget e1',
    'delete web',
  ]);
});

test('what Docker gives is taken: address, MAC, ports, options', async (t) => {
  const scene = new Scene();
  const ports = [{ protocol: 'tcp' as const, containerPort: 80, hostPort: 0, hostIp: '' }];
  t.match(await scene.attach('e1', { address: '10.20.0.7/24', mac: '02:00:00:00:00:07', ports, options: { a: 'b' } }), { address: '10.20.0.7/24', mac: '02:00:00:00:00:07', ports, options: { a: 'b' } });
  await scene.attach('e2', { address: '10.20.0.8/24', addressHeld: true });
  t.same(scene.take().filter((call) => call.startsWith('claim')), ['claim for e1'], 'no second claim on what its own IPAM driver gave it');
  const without = await scene.attach('e3', { addressHeld: true });
  t.equal(without.address, undefined);
  t.match(without.mac, /^02:42(:[0-9a-f]{2}){4}$/);
});

test('two families: both addresses are claimed, and released together', async (t) => {
  const { controller, calls, failing, networks } = new Scene();
  networks.set('dual', network('dual'));
  const dual = { networkId: 'dual', id: 'e1' };
  t.match(await controller.createEndpoint(dual), { address: '10.20.0.9/24', addressIpv6: 'fd20::1:2:9/64', mac: '02:42:0a:14:00:09' });
  await controller.deleteEndpoint('e1');
  t.same(calls.filter((call) => /claim|release/.test(call)), ['claim for e1', 'claim for e1 in IPv6', 'release 10.20.0.9/24 fd20::1:2:9/64']);
  failing.add('claim for e2 in IPv6');
  await t.rejects(controller.createEndpoint({ ...dual, id: 'e2' }), { code: 'WEFT-KERNEL' });
  t.equal(calls.at(-1), 'release 10.20.0.9/24', 'without the second, the first is not kept');
});

test('where a driver\'s endpoints share a MAC, none is chosen for them', async (t) => {
  const scene = new Scene();
  t.match(await scene.attach('e1', { networkId: 'odd' }), { mac: '00:11:22:33:44:55' });
  t.match(await scene.attach('e2', { networkId: 'odd', mac: '00:11:22:33:44:55' }), { mac: '00:11:22:33:44:55' }, 'it may be said');
  scene.take();
  await t.rejects(scene.attach('e3', { networkId: 'odd', mac: '02:00:00:00:00:07' }), { code: 'WEFT-MAC-SHARED', message: /odd.*02:00:00:00:00:07.*00:11:22:33:44:55/ });
  t.same(scene.take(), ['claim for e3', 'release 10.20.0.9/24'], 'nothing stays of the attempt');
});

test('without IPv4 the MAC follows from the IPv6 address', async (t) => {
  const { controller } = new Scene();
  const macOf = async (id: string, addressIpv6: string): Promise<string> => (await controller.createEndpoint({ networkId: 'web', id, addressHeld: true, addressIpv6 })).mac;
  t.equal(await macOf('e1', 'fd20::ffff:fffe/64'), '02:42:ff:ff:ff:fe');
  t.equal(await macOf('e2', 'fd20::1:0:0:7/64'), '02:42:00:01:00:07', 'all of the interface identifier counts');
});

test('an address that Docker claimed by itself is released once: by Docker, or, where that has forgotten it, here', async (t) => {
  const scene = new Scene();
  const released = (): string[] => scene.take().filter((call) => call.startsWith('release'));
  for (const id of ['e1', 'e2', 'e3']) await scene.attach(id, { address: '10.20.0.8/24', addressHeld: id !== 'e3' });
  t.same([...scene.endpoints.values()].map(({ heldAs }) => heldAs), ['docker-1', 'docker-1', undefined]);
  await scene.controller.deleteEndpoint('e1');
  t.same(released(), []);
  scene.start();
  await scene.controller.deleteEndpoint('e2', { forgotten: true });
  t.same(released(), ['release 10.20.0.8/24']);
  await scene.controller.deleteEndpoint('e3');
  t.same(released(), ['release 10.20.0.8/24'], 'one that was claimed here');
  scene.failing.add('attach web e4');
  await t.rejects(scene.attach('e4', { address: '10.20.0.8/24', addressHeld: true }), { code: 'WEFT-KERNEL' });
  t.same(released(), [], 'nor after a creation that failed');
});

test('repeats are answered the same and do nothing', async (t) => {
  const scene = new Scene();
  const first = await scene.attach('e1');
  scene.take();
  t.equal(await scene.attach('e1', { address: '10.20.0.99/24' }), first);
  t.same(scene.take(), []);
  const answer = await scene.controller.join('e1', '/c1');
  t.same(await scene.controller.join('e1', '/c1'), answer);
  await scene.controller.leave('e1');
  scene.take();
  await scene.controller.leave('e1');
  t.same(scene.take(), []);
  await scene.controller.deleteEndpoint('e1');
  scene.take();
  await scene.controller.deleteEndpoint('e1');
  await scene.controller.leave('e1');
  t.same(scene.take(), []);
});

test('whatever step of a creation fails, nothing of it stays', async (t) => {
  const steps: [string, string[]][] = [
    ['claim for e1', ['claim for e1']],
    ['attach web e1', ['claim for e1', 'put e1', 'attach web e1', 'detach web e1', 'forget e1', 'release 10.20.0.9/24']],
  ];
  for (const [step, calls] of steps) {
    const scene = new Scene();
    scene.failing.add(step);
    await t.rejects(scene.attach('e1'), { code: 'WEFT-KERNEL', message: new RegExp(step) }, step);
    t.same(scene.take(), calls);
    t.equal(scene.endpoints.size, 0);
    scene.failing.clear();
    t.match(await scene.attach('e1'), { id: 'e1' }, 'and the next attempt succeeds');
  }
  const scene = new Scene();
  for (const each of ['attach web e1', 'detach web e1', 'release 10.20.0.9/24']) scene.failing.add(each);
  await t.rejects(scene.attach('e1'), { message: /attach web e1/ }, 'the first error is the one that is told');
  t.equal(scene.endpoints.size, 0, 'and every step back is taken, whatever the others did');
});

test('a join that fails leaves the endpoint as it was', async (t) => {
  const scene = new Scene();
  await scene.attach('e1');
  scene.failing.add('join web e1');
  await t.rejects(scene.controller.join('e1', '/c1'), { code: 'WEFT-KERNEL' });
  t.equal(scene.endpoints.get('e1')!.sandbox, undefined);
  t.notOk(scene.take().some((call) => call.startsWith('joined')));
});

test('a deletion goes on whatever fails, and says so', async (t) => {
  const scene = new Scene();
  await scene.attach('e1');
  await scene.controller.join('e1', '/c1');
  scene.take();
  for (const each of ['leave web e1', 'detach web e1', 'release 10.20.0.9/24']) scene.failing.add(each);
  await scene.controller.deleteEndpoint('e1');
  t.same(scene.take(), ['put e1', 'left e1 /c1', 'leave web e1', 'detach web e1', 'release 10.20.0.9/24', 'forget e1']);
  t.equal(scene.endpoints.size, 0);
  t.equal(scene.warnings.length, 3);
});

test('what cannot be is refused with its code', async (t) => {
  const { controller, networks, ...scene } = new Scene();
  t.throws(() => controller.driver('nowhere'), { code: 'WEFT-DRIVER-UNKNOWN', message: /fake, other/ });
  t.throws(() => controller.validate(network('x', 'nowhere')), { code: 'WEFT-DRIVER-UNKNOWN' });
  t.throws(() => controller.validate({ ...network('x'), options: { bad: '' } }), { code: 'WEFT-OPTION-UNKNOWN' });
  await t.rejects(controller.createNetwork(network('x', 'nowhere')), { code: 'WEFT-DRIVER-UNKNOWN' });
  await t.rejects(controller.createEndpoint({ networkId: 'gone', id: 'e1' }), { code: 'WEFT-NETWORK-UNKNOWN' });
  await t.rejects(controller.join('e1', '/c1'), { code: 'WEFT-ENDPOINT-UNKNOWN' });
  await controller.createEndpoint({ networkId: 'web', id: 'e1' });
  await t.rejects(controller.deleteNetwork(network('web')), { code: 'WEFT-NETWORK-BUSY', message: /web.*e1/ });
  t.notOk(scene.calls.includes('delete web'));
  networks.delete('web');
  await t.rejects(controller.join('e1', '/c1'), { code: 'WEFT-NETWORK-UNKNOWN' });
});

test('an endpoint whose network is gone can still be left and deleted', async (t) => {
  const scene = new Scene();
  for (const id of ['e1', 'e2']) {
    await scene.attach(id);
    await scene.controller.join(id, `/${id}`);
  }
  scene.networks.delete('web');
  scene.take();
  await scene.controller.leave('e1');
  await scene.controller.deleteEndpoint('e1');
  await scene.controller.deleteEndpoint('e2');
  t.same(scene.take(), ['put e1', 'forget e1', 'put e2', 'forget e2']);
  t.equal(scene.endpoints.size, 0);
});

test('calls of one network take turns; another network does not wait', async (t) => {
  const scene = new Scene();
  const release = scene.hold('attach web e1');
  const first = scene.attach('e1');
  const second = scene.attach('e2', { address: '10.20.0.8/24' });
  await scene.attach('e3', { networkId: 'dbs' });
  t.notOk(scene.take().some((call) => call.endsWith('e2')));
  t.ok(scene.endpoints.has('e3'));
  release();
  await Promise.all([first, second]);
  t.same(scene.take(), ['claim for e2', 'put e2', 'attach web e2']);
});

test('the same call twice at once is one', async (t) => {
  const scene = new Scene();
  const [a, b] = await Promise.all([scene.attach('e1'), scene.attach('e1')]);
  t.equal(a, b);
  t.same(scene.take(), ['claim for e1', 'put e1', 'attach web e1']);
});

test('leave and delete that overtake each other', async (t) => {
  const scene = new Scene();
  await scene.attach('e1');
  const admitted = scene.hold('join web e1');
  const joining = scene.controller.join('e1', '/c1');
  const leaving = scene.controller.leave('e1');
  await nextTurn();
  admitted();
  await Promise.all([joining, leaving]);
  t.equal(scene.endpoints.get('e1')!.sandbox, undefined, 'a leave that comes during a join waits for it');

  await scene.controller.join('e1', '/c1');
  scene.take();
  await Promise.all([scene.controller.deleteEndpoint('e1'), scene.controller.leave('e1'), scene.controller.deleteEndpoint('e1')]);
  t.equal(scene.endpoints.size, 0, 'what is deleted does not come back');
  t.same(scene.take(), ['put e1', 'left e1 /c1', 'leave web e1', 'detach web e1', 'release 10.20.0.9/24', 'forget e1']);

  await scene.attach('e2');
  const deleted = scene.hold('detach web e2');
  const deleting = scene.controller.deleteEndpoint('e2');
  const refused = t.rejects(scene.controller.join('e2', '/c2'), { code: 'WEFT-ENDPOINT-UNKNOWN' }, 'a join that comes during a deletion');
  await nextTurn();
  deleted();
  await deleting;
  await refused;
});

test('after a restart everything goes on from what is on disk', async (t) => {
  const scene = new Scene();
  await scene.attach('e1');
  await scene.controller.join('e1', '/c1');
  const stored = scene.endpoints.get('e1');
  scene.start();
  scene.take();
  t.equal(await scene.attach('e1'), stored);
  await scene.controller.leave('e1');
  await scene.controller.deleteEndpoint('e1');
  t.same(scene.take(), ['put e1', 'left e1 /c1', 'leave web e1', 'detach web e1', 'release 10.20.0.9/24', 'forget e1']);
});

test('repair: each driver sees its own networks and their endpoints, as they are when its turn comes', async (t) => {
  const scene = new Scene();
  await scene.attach('e1');
  await scene.attach('e2', { networkId: 'odd' });
  const release = scene.hold('repair fake');
  const repairing = scene.controller.repair();
  await scene.attach('e3', { networkId: 'odd', address: '10.20.0.8/24' });
  release();
  t.same(await repairing, [{ what: 'fake: web,dbs | e1' }, { what: 'other: odd | e2,e3' }]);
  scene.failing.add('repair fake');
  t.match(await scene.controller.repair(), [{ what: /driver fake could not be mended/, error: /EIO/ }, { what: 'other: odd | e2,e3' }], 'one that fails keeps nobody from the next');
});
