import { test } from 'tap';
import { space } from '../linux/testing.ts';
import { occupiedPrefixes } from './occupied.ts';

test('what is routed by links of our own is not what this host used before', (t) => {
  const { rtnl } = space(t);
  for (const [i, name] of ['eth0', 'uplink', 'weft-up', 'wbr-0123456789a', 'wmh-0123456789a', 'wih-0123456789a'].entries()) {
    rtnl.addAddress(rtnl.addLink({ kind: 'bridge', name, up: true }), `10.20.${i}.1/24`);
  }
  t.same(occupiedPrefixes(rtnl, { nodePrefix: '10.255.0.0/16', docker: [], own: [] }).slice(1), [
    { prefix: '10.20.0.0/24', by: 'the route by eth0' }, { prefix: '10.20.1.0/24', by: 'the route by uplink' },
  ]);
  t.end();
});
