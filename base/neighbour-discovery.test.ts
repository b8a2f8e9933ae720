import { test } from 'tap';
import { duplicateProbe, ipv6RivalFor, probeGroups, unsolicitedAdvertisement } from './neighbour-discovery.ts';

const OWN = '02:42:0a:00:00:05';
const OTHER = '00:11:22:33:44:55';
const IP = 'fd00::12:3456';

test('a probe, byte by byte', (t) => {
  // Ethernet; IPv6 with hop limit 255, from :: to the solicited-node group; ICMPv6 135 with its checksum.
  t.equal(duplicateProbe(OWN, IP).toString('hex'), '3333ff123456' + '02420a000005' + '86dd' + '6000000000183aff' + '00'.repeat(16) + 'ff0200000000000000000001ff123456' +
    '870014d700000000' + 'fd000000000000000000000000123456');
  t.same(probeGroups(IP), ['33:33:00:00:00:01', '33:33:ff:12:34:56']);
  t.end();
});

test('who is a rival for an address', (t) => {
  t.equal(ipv6RivalFor(IP, OWN, unsolicitedAdvertisement(OTHER, IP)), OTHER, 'who says that he has it');
  t.equal(ipv6RivalFor(IP, OWN, duplicateProbe(OTHER, IP)), OTHER, 'who probes for it at the same time');
  const asks = duplicateProbe(OTHER, IP);
  asks[14 + 8] = 0xfe;
  t.equal(ipv6RivalFor(IP, OWN, asks), undefined, 'not who looks for its owner');
  const fromAfar = unsolicitedAdvertisement(OTHER, IP);
  fromAfar[14 + 7] = 64;
  t.equal(ipv6RivalFor(IP, OWN, fromAfar), undefined, 'not who is behind a router');
  t.equal(ipv6RivalFor(IP, OWN, unsolicitedAdvertisement(OTHER, 'fd00::12:3457')), undefined, 'not who has another');
  t.equal(ipv6RivalFor(IP, OWN, duplicateProbe(OWN, IP)), undefined, 'not we ourselves');
  for (const length of [0, 14, 53, 54, 77]) t.equal(ipv6RivalFor(IP, OWN, unsolicitedAdvertisement(OTHER, IP).subarray(0, length)), undefined, `cut to ${length} bytes`);
  t.end();
});
