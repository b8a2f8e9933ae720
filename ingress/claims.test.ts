import { test, type Test } from 'tap';
import { weftError } from '../base/errors.ts';
import type { Store } from '../store/store.ts';
import { storesForTests } from '../store/stores-for-tests.ts';
import { createPortClaims, type PortClaims, releaseAllPorts } from './claims.ts';

interface Node { claims: PortClaims; link: 'up' | 'down' | 'answers-lost'; /** Before each write. */ pause?: () => Promise<void>; restart(): void }

/** Nodes that share one store, which can be out of reach, lose answers, or take its time. */
function scene(t: Test): { store: Store; node(name: string): Node; stored(): Promise<Record<string, unknown>> } {
  const stores = storesForTests(t);
  const store = stores.store();
  return {
    store,
    node: (name) => {
      const local = stores.local(name);
      const through = async <T>(ask: () => Promise<T>): Promise<T> => {
        const away = (): Error => weftError('WEFT-STORE-UNREACHABLE', { store: 'test', detail: 'cut off' });
        if (node.link === 'down') throw away();
        const answer = await ask();
        if (node.link === 'answers-lost') throw away();
        return answer;
      };
      const linked: Store = {
        ...store,
        // Answers are lost of writes: a read that fails has changed nothing.
        get: (key) => (node.link === 'down' ? through(() => store.get(key)) : store.get(key)),
        txn: async (compares, writes) => {
          await node.pause?.();
          return through(() => store.txn(compares, writes));
        },
      };
      const make = (): PortClaims => createPortClaims({ store: linked, local, node: name });
      const node: Node = { claims: make(), link: 'up', restart: () => void (node.claims = make()) };
      return node;
    },
    stored: async () => Object.fromEntries((await store.range('ports/')).entries.map(({ key, value }) => [key, JSON.parse(value)])),
  };
}

test('a port belongs to one service, on as many nodes as have backends for it', async (t) => {
  const { node, stored } = scene(t);
  const [a, b] = [node('a'), node('b')];
  await a.claims.claim('tcp', 80, 'web');
  await a.claims.claim('tcp', 80, 'web');
  await b.claims.claim('tcp', 80, 'web');
  t.same(await stored(), { 'ports/tcp/80': { service: 'web', nodes: ['a', 'b'] } });
  t.equal(b.claims.held('tcp', 80), 'web');
  await t.rejects(b.claims.claim('tcp', 80, 'api'), { code: 'WEFT-PORT-HELD', message: /port 80\/tcp belongs to service web/ });
  t.equal(b.claims.held('tcp', 80), 'web', 'what was held is held');
  await b.claims.claim('udp', 80, 'api');
  await a.claims.release('tcp', 80);
  await a.claims.release('tcp', 80);
  t.equal(a.claims.held('tcp', 80), undefined);
  t.same(await stored(), { 'ports/tcp/80': { service: 'web', nodes: ['b'] }, 'ports/udp/80': { service: 'api', nodes: ['b'] } });
  t.same(b.claims.list(), ['tcp/80', 'udp/80']);
  await b.claims.release('tcp', 80);
  await a.claims.claim('tcp', 80, 'api');
  t.same((await stored())['ports/tcp/80'], { service: 'api', nodes: ['a'] });
});

test('the ports of a node that has gone are free, or stay with those that have them too', async (t) => {
  const { store, node, stored } = scene(t);
  const [a, b] = [node('a'), node('b')];
  await a.claims.claim('tcp', 80, 'web');
  await b.claims.claim('tcp', 80, 'web');
  await a.claims.claim('udp', 53, 'names');
  for (let i = 0; i < 2; i++) {
    await releaseAllPorts(store, 'a');
    t.same(await stored(), { 'ports/tcp/80': { service: 'web', nodes: ['b'] } });
  }
  await b.claims.claim('udp', 53, 'other');
});

test('a refused claim leaves nothing to give up', async (t) => {
  const { node } = scene(t);
  const [a, b] = [node('a'), node('b')];
  await a.claims.claim('tcp', 80, 'web');
  await t.rejects(b.claims.claim('tcp', 80, 'api'), { code: 'WEFT-PORT-HELD' });
  t.same(b.claims.list(), []);
});

test('of two nodes at the same moment one wins', async (t) => {
  const { node, stored } = scene(t);
  const nodes = ['a', 'b', 'c', 'd'].map(node);
  // Everybody has read before anybody writes.
  const gate = Promise.withResolvers<void>();
  let waiting = 0;
  for (const each of nodes) {
    each.pause = async () => {
      if (++waiting === nodes.length) gate.resolve();
      await gate.promise;
    };
  }
  const results = await Promise.allSettled(nodes.map(({ claims }, i) => claims.claim('tcp', 80, `s${i % 2}`)));
  const { service, nodes: holders } = (await stored())['ports/tcp/80'] as { service: string; nodes: string[] };
  t.same(results.map(({ status }) => status === 'fulfilled'), nodes.map((_, i) => `s${i % 2}` === service));
  t.equal(holders.length, 2, 'both nodes of the service that won');
});

test('while the store is away, what this node has is enough, also after a restart', async (t) => {
  const { node } = scene(t);
  const a = node('a');
  await a.claims.claim('tcp', 80, 'web');
  a.link = 'down';
  a.restart();
  await a.claims.claim('tcp', 80, 'web');
  t.equal(a.claims.held('tcp', 80), 'web');
  await t.rejects(a.claims.claim('tcp', 81, 'web'), { code: 'WEFT-STORE-UNREACHABLE' });
  await t.rejects(a.claims.release('tcp', 80), { code: 'WEFT-STORE-UNREACHABLE' });
  t.same(a.claims.list(), ['tcp/80', 'tcp/81'], 'both are given up when it answers');
});

test('a claim whose answer was lost is known, and can be given up or repeated', async (t) => {
  const { node, stored } = scene(t);
  const a = node('a');
  a.link = 'answers-lost';
  for (const port of [80, 81]) await t.rejects(a.claims.claim('tcp', port, 'web'), { code: 'WEFT-STORE-UNREACHABLE' });
  t.equal(a.claims.held('tcp', 80), undefined, 'not certain');
  t.same(a.claims.list(), ['tcp/80', 'tcp/81']);
  a.link = 'up';
  a.restart();
  await a.claims.claim('tcp', 80, 'web');
  t.equal(a.claims.held('tcp', 80), 'web');
  await a.claims.release('tcp', 81);
  t.same(await stored(), { 'ports/tcp/80': { service: 'web', nodes: ['a'] } });
});

test('a claim that comes while the last one is being given up is a new one', async (t) => {
  const { node, stored } = scene(t);
  const a = node('a');
  await a.claims.claim('tcp', 80, 'web');
  const gate = Promise.withResolvers<void>();
  a.pause = () => gate.promise;
  const released = a.claims.release('tcp', 80);
  const claimed = a.claims.claim('tcp', 80, 'web');
  gate.resolve();
  await Promise.all([released, claimed]);
  t.same(await stored(), { 'ports/tcp/80': { service: 'web', nodes: ['a'] } });
  t.equal(a.claims.held('tcp', 80), 'web');
});

test('alone: not even with the same service of another node', async (t) => {
  const { node, stored } = scene(t);
  const [a, b] = [node('a'), node('b')];
  const alone = { alone: true };
  const both = await Promise.allSettled([a, b].map(({ claims }) => claims.claim('tcp', 80, 'web', alone)));
  t.same(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], 'at the same moment');
  const [winner, loser] = both[0]!.status === 'fulfilled' ? [a, b] : [b, a];
  t.same(loser.claims.list(), []);
  await winner.claims.claim('tcp', 80, 'web', alone);
  await loser.claims.claim('tcp', 80, 'web');
  await t.rejects(winner.claims.claim('tcp', 80, 'web', alone), { code: 'WEFT-PORT-HELD' }, 'asked for by its number it is shared, and then it is nobody\'s alone');
  winner.link = 'down';
  await t.rejects(winner.claims.claim('tcp', 80, 'web', alone), { code: 'WEFT-STORE-UNREACHABLE' }, 'which only the store can tell');
  winner.link = 'up';
  for (const { claims } of [a, b]) await claims.release('tcp', 80);
  t.same(await stored(), {});
});
