import { test } from 'tap';
import { hasIpsecPolicies } from './ipsec.ts';
import { space } from './testing.ts';

test('policies of IPsec', (t) => {
  const { netns, run } = space(t);
  t.equal(hasIpsecPolicies(netns), false);
  run('ip', 'xfrm', 'policy', 'add', 'src', '10.0.0.0/8', 'dst', '10.0.0.0/8', 'dir', 'out', 'tmpl', 'src', '10.0.0.1', 'dst', '10.0.0.2', 'proto', 'esp', 'mode', 'transport');
  t.equal(hasIpsecPolicies(netns), true);
  run('ip', 'xfrm', 'policy', 'flush');
  t.equal(hasIpsecPolicies(netns), false);
  t.end();
});
