import { test } from 'tap';
import { NODES, nodePrefixProblems } from './node-prefix.ts';

test('the nodes\' own addresses against everything else', (t) => {
  const prefix = '10.255.0.0/16';
  t.same(nodePrefixProblems(prefix, [{ prefix, by: NODES }, { prefix, by: `${NODES} of node h2` }, { prefix: '10.0.0.0/24', by: 'the route by eth0' }, { prefix: 'fd00::/64', by: 'the route by eth0' }]), []);
  t.match(nodePrefixProblems(prefix, [{ prefix: '10.254.0.0/16', by: `${NODES} of node h2` }]), [/is 10\.255\.0\.0\/16 here and 10\.254\.0\.0\/16 elsewhere .*node h2.*the same/]);
  t.match(nodePrefixProblems(prefix, [{ prefix: '10.0.0.0/8', by: 'the route by tun0 of node h2' }, { prefix: '10.255.9.0/24', by: 'Docker network x' }]), [/overlap 10\.0\.0\.0\/8 \(the route by tun0 of node h2\)/, /Docker network x/]);
  t.end();
});
