import { test } from 'tap';
import { arpAnnouncement, arpProbe, parseArp, rivalFor } from './arp.ts';

const OWN = '02:42:0a:00:00:05';
const OTHER = '00:11:22:33:44:55';

test('a probe and an announcement, byte by byte', (t) => {
  // RFC 826's packet behind an Ethernet header; the target's hardware address is what is asked for.
  t.equal(arpProbe(OWN, '10.0.0.5').toString('hex'), 'ffffffffffff02420a0000050806' + '00010800060400' + '01' + '02420a000005' + '00000000' + '000000000000' + '0a000005');
  t.equal(arpAnnouncement(OWN, '10.0.0.5').toString('hex'), 'ffffffffffff02420a0000050806' + '00010800060400' + '01' + '02420a000005' + '0a000005' + '000000000000' + '0a000005');
  t.same(parseArp(arpProbe(OWN, '10.0.0.5')), { senderMac: OWN, senderIp: '0.0.0.0', targetIp: '10.0.0.5' });
  t.end();
});

test('what is no ARP for IPv4 over Ethernet is none', (t) => {
  const frame = arpProbe(OWN, '10.0.0.5');
  t.equal(parseArp(frame.subarray(0, 41)), undefined, 'cut short');
  t.equal(parseArp(Buffer.alloc(0)), undefined);
  for (const at of [15, 16, 18, 19]) {
    const other = Buffer.from(frame);
    other[at]! ^= 1;
    t.equal(parseArp(other), undefined, `byte ${at}`);
  }
  t.ok(parseArp(Buffer.concat([frame, Buffer.alloc(18)])), 'Ethernet fills short frames up');
  t.end();
});

test('who is a rival for an address', (t) => {
  const says = (senderMac: string, senderIp: string, targetIp: string) => rivalFor('10.0.0.5', OWN, { senderMac, senderIp, targetIp });
  t.equal(says(OTHER, '10.0.0.5', '0.0.0.0'), OTHER, 'who answers');
  t.equal(says(OTHER, '10.0.0.5', '10.0.0.9'), OTHER, 'who asks for somebody else from it');
  t.equal(says(OTHER, '0.0.0.0', '10.0.0.5'), OTHER, 'who probes for it at the same time');
  t.equal(says(OTHER, '10.0.0.9', '10.0.0.5'), undefined, 'not who looks for its owner');
  t.equal(says(OTHER, '0.0.0.0', '10.0.0.6'), undefined, 'not who probes for another');
  t.equal(says(OWN, '0.0.0.0', '10.0.0.5'), undefined, 'not we ourselves');
  t.end();
});
