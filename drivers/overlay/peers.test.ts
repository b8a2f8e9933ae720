import { test } from 'tap';
import { SharedState, nodeInfo } from '../testbed.ts';
import { createPeers } from './peers.ts';

test('a failed node stays a peer as long as it is one of the cluster\'s', (t) => {
  const shared = new SharedState();
  const listed = new Set(['b', 'c']);
  const changes: string[] = [];
  for (const [number, id] of [[2, 'b'], [3, 'c']] as const) shared.of(id).publish('node', 'self', nodeInfo(id, number, `10.99.1.${number}`));
  const peers = createPeers(shared.of('a'), (id) => listed.has(id), (id) => void changes.push(id));
  const ids = (): string[] => peers.list().map(({ id }) => id);
  // Its endpoint's record stays a moment: it is a member still.
  const fail = (id: string): void => {
    shared.of(id).publish('endpoint', 'e', { networkId: 'web', endpointId: 'e', ip: '10.20.0.9', mac: '02:42:0a:14:00:09' });
    shared.dead.add(id);
    shared.of(id).withdraw('node', 'self');
  };
  t.same(changes.splice(0), ['b', 'c']);

  fail('b');
  peers.prune();
  t.same([ids(), changes.splice(0)], [['b', 'c'], []]);

  listed.delete('b');
  peers.prune();
  t.same([ids(), changes.splice(0)], [['c'], ['b']], 'it is taken out after it failed');

  listed.delete('c');
  t.same(ids(), ['c'], 'one that answers is one');
  fail('c');
  t.same([ids(), changes.splice(0)], [[], ['c']], 'it is taken out, and then hears nobody');
  peers.close();
  t.end();
});
