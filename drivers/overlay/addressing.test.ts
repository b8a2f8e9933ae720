import { test } from 'tap';
import { lastNodeNumber, nodeAddress } from './addressing.ts';

test('nodes\' addresses are of their prefix, as far as it reaches', (t) => {
  t.equal(nodeAddress('10.255.0.0/16', 1), '10.255.0.1');
  t.equal(nodeAddress('10.255.0.0/16', 300), '10.255.1.44');
  t.equal(nodeAddress('172.31.4.0/24', 254), '172.31.4.254');
  t.equal(lastNodeNumber('172.31.4.0/24'), 254, 'all but the first and the last address');
  t.equal(lastNodeNumber('10.255.0.0/16'), 65534);
  t.equal(lastNodeNumber('10.0.0.0/8'), 65534, 'a MAC address has no room for more');
  t.end();
});
