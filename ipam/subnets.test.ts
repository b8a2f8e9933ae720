import fc from 'fast-check';
import { test } from 'tap';
import { type Family, formatPrefix, overlaps, parsePrefix } from '../base/prefix.ts';
import { chooseSubnet, firstFree } from './subnets.ts';

const taken = (...texts: string[]) => texts.map((text) => ({ prefix: parsePrefix(text)!, by: 'someone' }));
const freeOf = (family: Family, pools: string[], ...texts: string[]) => {
  const found = firstFree(pools, taken(...texts), family);
  return found && formatPrefix(found);
};
const free = (pools: string[], ...texts: string[]) => freeOf(4, pools, ...texts);

void test('the first free subnet', async (t) => {
  t.equal(free(['10.192.0.0/11']), '10.192.0.0/24');
  t.equal(free(['10.192.0.0/11'], '10.192.0.128/25', '10.192.2.0/24'), '10.192.1.0/24');
  t.equal(free(['10.192.0.0/11'], '10.192.0.0/16', '10.193.0.5/32'), '10.193.1.0/24');
  t.equal(free(['10.192.0.0/23', '10.1.1.0/26'], '10.192.0.0/22'), '10.1.1.0/26');
  t.equal(free(['10.192.0.0/23'], '10.192.0.0/24', '10.192.1.0/24'), undefined);
  t.equal(free(['255.255.255.0/24', '10.1.0.0/24'], '0.0.0.0/0', '10.0.0.0/8'), undefined);
  t.equal(free(['10.5.0.0/16', '255.255.255.0/24'], '10.0.0.0/8', '255.0.0.0/8'), undefined);
  t.equal(freeOf(6, ['10.192.0.0/11', 'fd12:3456:789a::/48'], '10.192.0.0/24', 'fd12:3456:789a::/63'), 'fd12:3456:789a:2::/64');
  t.equal(freeOf(6, ['10.192.0.0/11']), undefined);
});

void test('a subnet found free overlaps nothing', async () => {
  const within = fc.tuple(fc.nat(0x3ffff), fc.integer({ min: 12, max: 32 })).map(([offset, length]) => parsePrefix(`10.${192 + (offset >>> 16)}.${(offset >>> 8) & 255}.${offset & 255}/${length}`)!);
  fc.assert(fc.property(fc.array(within, { maxLength: 40 }), (prefixes) => {
    const found = firstFree(['10.192.0.0/15'], prefixes.map((prefix) => ({ prefix, by: '' })));
    const all = Array.from({ length: 512 }, (_, i) => parsePrefix(`10.${192 + (i >>> 8)}.${i & 255}.0/24`)!);
    const expected = all.find((candidate) => !prefixes.some((prefix) => overlaps(prefix, candidate)));
    return (found && formatPrefix(found)) === (expected && formatPrefix(expected));
  }));
});

void test('an overlap is refused by name, with a way out', async (t) => {
  const occupied = [{ prefix: '172.17.0.0/16', by: 'Docker network bridge on node b' }, { prefix: 'fd00::/8', by: 'the route by eth0' }];
  t.throws(() => chooseSubnet(parsePrefix('172.17.4.0/24')!, taken('10.192.0.0/24'), occupied, ['10.192.0.0/11']), {
    code: 'WEFT-SUBNET-OVERLAP', message: /172\.17\.0\.0\/16 \(Docker network bridge on node b\).*--subnet 10\.192\.1\.0\/24/,
  });
  t.throws(() => chooseSubnet(4, taken('10.0.0.0/8'), occupied, ['10.192.0.0/11']), { code: 'WEFT-POOLS-EXHAUSTED' });
});
