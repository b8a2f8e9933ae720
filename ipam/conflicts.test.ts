import { test } from 'tap';
import { conflicts } from './conflicts.ts';

const networks = new Map([['10.192.0.0/24', 'web'], ['fd00:1::/64', 'web']]);

void test('nothing overlaps', async (t) => {
  t.same(conflicts(networks, ['10.192.0.0/11'], [{ prefix: '172.17.0.0/16', by: 'Docker network bridge' }, { prefix: '::/0', by: 'the default' }].slice(0, 1)), []);
});

void test('a VPN that came later', async (t) => {
  const [network, pool, ...more] = conflicts(networks, ['10.192.0.0/11'], [{ prefix: '10.192.0.0/16', by: 'the route by tun0 of node h2' }]);
  t.match(network, /^network web \(10\.192\.0\.0\/24\) overlaps 10\.192\.0\.0\/16 \(the route by tun0 of node h2\)/);
  t.match(pool, /^default pool 10\.192\.0\.0\/11 overlaps .*new networks keep out/);
  t.same(more, []);
  t.match(conflicts(new Map(), ['10.192.0.0/11'], [{ prefix: '10.0.0.0/8', by: 'the route by tun0' }]), [/no free subnet left.*10\.0\.0\.0\/8/]);
  t.match(conflicts(networks, [], [{ prefix: 'fd00::/16', by: 'the route by wg0' }]), [/^network web \(fd00:1::\/64\) overlaps fd00::\/16/]);
});
