import { test } from 'tap';
import { checkNodePrefix } from './advertise.ts';

const card = (cidr: string) => [{ cidr, address: '', netmask: '', family: 'IPv4' as const, mac: '', internal: false }];

test('the nodes\' own addresses are nobody else\'s on this host', (t) => {
  const present = { eth0: card('10.0.7.9/24'), 'weft-up': card('10.255.0.1/32') };
  t.doesNotThrow(() => checkNodePrefix('10.255.0.0/16', present), 'its own link is not in the way');
  for (const prefix of ['10.0.0.0/16', '10.0.7.128/28']) t.throws(() => checkNodePrefix(prefix, present), { code: 'WEFT-NODE-PREFIX', message: /10\.0\.7\.0\/24 \(eth0\)/ }, prefix);
  t.doesNotThrow(() => checkNodePrefix('nonsense', present));
  t.end();
});
