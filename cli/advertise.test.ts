import { test } from 'tap';
import { checkNodePrefix, chooseAdvertised, hostAddresses } from './advertise.ts';

const card = (cidr: string) => [{ cidr, address: '', netmask: '', family: 'IPv4' as const, mac: '', internal: false }];

test('the nodes\' own addresses are nobody else\'s on this host', (t) => {
  const present = { eth0: card('10.0.7.9/24'), 'weft-up': card('10.255.0.1/32') };
  t.doesNotThrow(() => checkNodePrefix('10.255.0.0/16', present), 'its own link is not in the way');
  for (const prefix of ['10.0.0.0/16', '10.0.7.128/28']) t.throws(() => checkNodePrefix(prefix, present), { code: 'WEFT-NODE-PREFIX', message: /10\.0\.7\.0\/24 \(eth0\)/ }, prefix);
  t.doesNotThrow(() => checkNodePrefix('nonsense', present));
  t.end();
});

test('the address that the others are told', (t) => {
  const [first, second] = [{ device: 'eth0', address: '10.0.0.7' }, { device: 'eth1', address: '192.168.1.7' }];
  t.equal(chooseAdvertised(undefined, [first]), '10.0.0.7', 'the only one');
  t.throws(() => chooseAdvertised(undefined, [first, second]), { code: 'WEFT-ADVERTISE-AMBIGUOUS', message: /10\.0\.0\.7 \(eth0\), 192\.168\.1\.7 \(eth1\)/ }, 'of several none is guessed');
  t.equal(chooseAdvertised('192.168.1.7', [first, second]), '192.168.1.7');
  t.equal(chooseAdvertised('eth1', [first, second]), '192.168.1.7', 'by its card');
  t.throws(() => chooseAdvertised('eth1', [first, second, { device: 'eth1', address: '192.168.1.8' }]), { code: 'WEFT-ADVERTISE-AMBIGUOUS' }, 'a card with two');
  const both = [first, { device: 'eth0', address: '2001:db8::7' }];
  t.equal(chooseAdvertised(undefined, both), '10.0.0.7', 'of both families the IPv4 one');
  t.equal(chooseAdvertised('eth0', both, 6), '2001:db8::7', 'or one of the family that the cluster has');
  t.equal(chooseAdvertised('2001:DB8:0::7', both), '2001:db8::7');
  t.equal(chooseAdvertised(undefined, both.slice(1)), '2001:db8::7', 'the only one');
  for (const wrong of ['10.0.0.8', 'eth7']) t.throws(() => chooseAdvertised(wrong, [first, second]), { code: 'WEFT-ADVERTISE-UNKNOWN', message: new RegExp(`${wrong}.*10\\.0\\.0\\.7`) });
  t.throws(() => chooseAdvertised(undefined, []), { code: 'WEFT-ADVERTISE-UNKNOWN' });
  t.end();
});

test('addresses of links that carry containers are none to be told', (t) => {
  const at = (address: string) => [{ ...card(`${address}/24`)[0]!, address }];
  const present = { eth0: at('10.0.0.7'), 'wbr-0123456789a': at('10.20.0.1'), 'wmh-0123456789a': at('192.168.1.8'), 'wih-0123456789a': at('192.168.1.9'), docker0: at('172.17.0.1') };
  t.same(hostAddresses(present), [{ device: 'eth0', address: '10.0.0.7' }]);
  const ipv6 = (address: string) => ({ ...card(`${address}/64`)[0]!, address, family: 'IPv6' as const, scopeid: 0 });
  t.same(hostAddresses({ eth0: [ipv6('fe80::7'), ipv6('2001:db8::7')] }), [{ device: 'eth0', address: '2001:db8::7' }], 'nor are link-local ones');
  t.end();
});
