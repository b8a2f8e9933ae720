import fc from 'fast-check';
import { test } from 'tap';
import { contains4, formatPrefix4, overlaps4, parsePrefix4 } from '../base/ip.ts';
import { blockBounds, blockOf, isBlock, layoutOf } from './blocks.ts';
import { chooseSubnet, firstFree } from './subnets.ts';

const taken = (...texts: string[]) => texts.map((text) => ({ prefix: parsePrefix4(text)!, by: 'someone' }));
const free = (pools: string[], ...texts: string[]) => {
  const found = firstFree(pools, taken(...texts));
  return found && formatPrefix4(found);
};

void test('the first free subnet', async (t) => {
  t.equal(free(['10.192.0.0/11']), '10.192.0.0/24');
  t.equal(free(['10.192.0.0/11'], '10.192.0.128/25', '10.192.2.0/24'), '10.192.1.0/24');
  t.equal(free(['10.192.0.0/11'], '10.192.0.0/16', '10.193.0.5/32'), '10.193.1.0/24');
  t.equal(free(['10.192.0.0/23', '10.1.1.0/26'], '10.192.0.0/22'), '10.1.1.0/26');
  t.equal(free(['10.192.0.0/23'], '10.192.0.0/24', '10.192.1.0/24'), undefined);
  t.equal(free(['255.255.255.0/24', '10.1.0.0/24'], '0.0.0.0/0', '10.0.0.0/8'), undefined);
  t.equal(free(['10.5.0.0/16', '255.255.255.0/24'], '10.0.0.0/8', '255.0.0.0/8'), undefined);
});

void test('a subnet found free overlaps nothing', async () => {
  const within = fc.tuple(fc.nat(0x3ffff), fc.integer({ min: 12, max: 32 })).map(([offset, length]) => parsePrefix4(`10.${192 + (offset >>> 16)}.${(offset >>> 8) & 255}.${offset & 255}/${length}`)!);
  fc.assert(fc.property(fc.array(within, { maxLength: 40 }), (prefixes) => {
    const found = firstFree(['10.192.0.0/15'], prefixes.map((prefix) => ({ prefix, by: '' })));
    const all = Array.from({ length: 512 }, (_, i) => parsePrefix4(`10.${192 + (i >>> 8)}.${i & 255}.0/24`)!);
    const expected = all.find((candidate) => !prefixes.some((prefix) => overlaps4(prefix, candidate)));
    return JSON.stringify(found) === JSON.stringify(expected);
  }));
});

void test('an overlap is refused by name, with a way out', async (t) => {
  const occupied = [{ prefix: '172.17.0.0/16', by: 'Docker network bridge on node b' }, { prefix: 'fd00::/8', by: 'the route by eth0' }];
  t.throws(() => chooseSubnet(parsePrefix4('172.17.4.0/24'), taken('10.192.0.0/24'), occupied, ['10.192.0.0/11']), {
    code: 'WEFT-SUBNET-OVERLAP', message: /172\.17\.0\.0\/16 \(Docker network bridge on node b\).*--subnet 10\.192\.1\.0\/24/,
  });
  t.throws(() => chooseSubnet(undefined, taken('10.0.0.0/8'), occupied, ['10.192.0.0/11']), { code: 'WEFT-POOLS-EXHAUSTED' });
});

void test('blocks: every address is in one', async (t) => {
  const sizes = { 8: [65536, 256], 16: [256, 256], 20: [16, 256], 24: [16, 16], 28: [16, 1], 29: [8, 1], 30: [4, 1], 31: [2, 1], 32: [1, 1] };
  for (const [length, [count, size]] of Object.entries(sizes)) {
    const layout = layoutOf(parsePrefix4(`10.0.0.0/${length}`)!);
    t.equal(layout.blockSize, size, `/${length}`);
    t.ok(isBlock(layout, count! - 1) && !isBlock(layout, count!), `/${length}`);
  }
  fc.assert(fc.property(fc.nat(0xffffffff), fc.integer({ min: 8, max: 32 }), fc.nat(), (address, length, at) => {
    const layout = layoutOf(parsePrefix4(`${address >>> 24}.${(address >>> 16) & 255}.0.0/${length}`)!);
    const { low, high } = layout.hosts;
    const host = low + (at % (high - low + 1));
    const bounds = blockBounds(layout, blockOf(layout, host));
    return contains4(layout.prefix, host) && bounds.low <= host && host <= bounds.high && isBlock(layout, blockOf(layout, host));
  }));
});
