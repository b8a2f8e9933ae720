import { test } from 'tap';
import { VirtualClock } from '../../base/virtual-clock.ts';
import type { SoftState, StateChange } from '../../cluster/state.ts';
import { watchRemoteEndpoints } from './remote-endpoints.ts';

const NETWORK = 'web';
type EndpointChange = StateChange<'endpoint'>;

/** Node b has endpoints .1 and .2; what is told of them is as cluster/view.ts tells it. */
function scene() {
  const clock = new VirtualClock();
  let condition: 'alive' | 'dead' = 'alive';
  let asked = 0;
  let tell: (change: EndpointChange) => void = () => {};
  const state = {
    watch: (_: string, call: (change: EndpointChange) => void) => {
      tell = call;
      return () => {};
    },
    members: () => (asked++, [{ id: 'b', name: 'b', state: condition, address: '10.0.0.2' }]),
  } as unknown as SoftState;
  const remotes = watchRemoteEndpoints(state, clock, () => {});
  const say = (type: 'put' | 'delete', ip: string): void => {
    const record = { table: 'endpoint', key: `e${ip}`, owner: 'b', value: { networkId: NETWORK, endpointId: `e${ip}`, ip, mac: '02:42:00:00:00:01' } } as const;
    tell(type === 'put' ? { type, record, previous: undefined, local: false } : { type, record, local: false });
  };
  return {
    clock, remotes, say,
    asked: () => asked,
    known: () => [...remotes.addresses(NETWORK)].filter((ip) => remotes.at({ networkId: NETWORK, ip })).sort(),
    fail: (...ips: string[]) => {
      condition = 'dead';
      for (const ip of ips) say('delete', ip);
    },
    /** Shows these; what it deleted while it was away it does not mention. */
    come: (...ips: string[]) => {
      condition = 'alive';
      for (const ip of ips) say('put', ip);
    },
  };
}

test('what a failed node had is reached for half a minute', async (t) => {
  const { clock, known, come, fail, asked } = scene();
  come('.1', '.2');
  fail('.1', '.2');
  t.equal(asked(), 1, 'the members are asked once for all of it');
  await clock.advance(29_000);
  t.same(known(), ['.1', '.2']);
  await clock.advance(2_000);
  t.same(known(), []);
  come('.1');
  t.same(known(), ['.1']);
});

test('what a node deleted while it was away goes, and its next failure has the whole time', async (t) => {
  const { clock, known, come, fail } = scene();
  come('.1', '.2');
  fail('.1', '.2');
  await clock.advance(5_000);
  come('.1');
  await clock.advance(20_000);
  fail('.1');
  await clock.advance(10_000);
  t.same(known(), ['.1'], 'only what it has not had since');
  await clock.advance(19_000);
  t.same(known(), ['.1']);
  await clock.advance(2_000);
  t.same(known(), []);
});

test('what is deleted by a node that is there goes at once', async (t) => {
  const { known, come, say } = scene();
  come('.1', '.2');
  say('delete', '.2');
  t.same(known(), ['.1']);
});

test('nothing is left to wait for when it is closed', async (t) => {
  const { clock, remotes, known, come, fail } = scene();
  come('.1');
  fail('.1');
  remotes.close();
  await clock.advance(60_000);
  t.same(known(), ['.1']);
});
