import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'tap';
import { ask, askUdp, until } from '../drivers/testbed.ts';
import { container, meshScene, port } from './testbed.ts';

test('restarts, damage and what comes at the same time', async (t) => {
  const { a, b, a1, a2, space, address, client, shared, store, hostWith } = await meshScene(t);

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

  t.test('backends of a failed node: nothing new where there are others, and what they have under way goes on for 30 s', async (t) => {
    const fail = (): (() => void) => {
      const records = [...shared.records.values()].filter(({ table, owner }) => table === 'backend' && owner === 'b');
      shared.dead.add('b');
      for (const { table, key } of records) shared.of('b').withdraw(table, key);
      return () => {
        shared.dead.delete('b');
        for (const { table, key, value } of records) shared.of('b').publish(table, key, value);
      };
    };
    a.forgotten.length = 0;
    await b.publish(a1, 'api');
    const comeBack = fail();
    await nextTurn();
    t.same(a.list(), [], 'it is said to be nowhere');
    t.same([ask(client.space, `${address}:8080`), askUdp(client.space, address, 8080)], Array(2).fill(`a1 ${client.address}`), 'but there is nobody else, and it may run on');
    await a.publish(a2, 'api');
    t.same([...new Set(Array.from({ length: 10 }, () => ask(client.space, `${address}:8080`)))], [`a2 ${client.address}`]);
    comeBack();
    await nextTurn();
    await a.clock.advance(60_000);
    t.same(a.list(), ['tcp/8080 api: node a 10.20.0.12:80, node b 10.20.0.11:80', 'udp/8080 api: node b 10.20.0.11:80']);
    t.same(a.forgotten, [], 'one that returned loses nothing');

    fail();
    await nextTurn();
    await a.clock.advance(29_000);
    t.equal(askUdp(client.space, address, 8080), `a1 ${client.address}`);
    t.same(a.forgotten, []);
    await a.clock.advance(2_000);
    await nextTurn();
    t.same(a.forgotten, ['10.20.0.11:80']);
    shared.dead.delete('b');
    await b.revoke(a1);
    await a.revoke(a2);
  });

  t.test('others who come and go do not take away what is being published', async (t) => {
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const slow = hostWith('slow', {
      txn: async (compares, writes) => {
        if (compares[0]!.key === 'ports/tcp/9002') {
          reached.resolve();
          await gate.promise;
        }
        return store.txn(compares, writes);
      },
    });
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
