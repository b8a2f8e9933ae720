import fc from 'fast-check';
import { test } from 'tap';
import { formatIp, lastOf, parsePrefix } from '../base/prefix.ts';
import { boundsOf, isBlock, isEmpty, isWithin, layoutOf } from './layout.ts';

const prefix = fc.oneof(
  fc.tuple(fc.nat(0xffffffff), fc.integer({ min: 8, max: 32 })).map(([base, length]) => `${formatIp(4, BigInt(base))}/${length}`),
  fc.tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 64, max: 128 })).map(([base, length]) => `${formatIp(6, base)}/${length}`),
).map((text) => parsePrefix(text)!);

void test('sizes', async (t) => {
  const sizes = {
    '10.0.0.0/8': [65536, 256], '10.0.0.0/16': [256, 256], '10.0.0.0/20': [16, 256], '10.0.0.0/24': [16, 16], '10.0.0.0/28': [16, 1],
    '10.0.0.0/29': [8, 1], '10.0.0.0/30': [4, 1], '10.0.0.0/31': [2, 1], '10.0.0.0/32': [1, 1],
    'fd00::/64': [2 ** 48, 65536], 'fd00::/112': [16, 4096], 'fd00::/126': [4, 1], 'fd00::/128': [1, 1],
  };
  for (const [text, [count, size]] of Object.entries(sizes)) {
    const layout = layoutOf(parsePrefix(text)!);
    t.equal(layout.blockSize, size, text);
    t.ok(isBlock(layout, count! - 1) && !isBlock(layout, count!), text);
  }
});

void test('what hosts can have, and what is chosen from', async (t) => {
  const expected = {
    '10.0.0.0/24': ['10.0.0.1', '10.0.0.254', '10.0.0.254'], '10.0.0.0/31': ['10.0.0.0', '10.0.0.1', '10.0.0.1'], '10.0.0.7/32': ['10.0.0.7', '10.0.0.7', '10.0.0.7'],
    'fd00::/64': ['fd00::1', 'fd00::ffff:ffff:ffff:ffff', 'fd00::ffff:fffe'], 'fd00::/112': ['fd00::1', 'fd00::ffff', 'fd00::ff7f'],
    'fd00::/124': ['fd00::1', 'fd00::f', 'fd00::f'], 'fd00::/127': ['fd00::', 'fd00::1', 'fd00::1'],
  };
  for (const [text, addresses] of Object.entries(expected)) {
    const { hosts, choosable, addressOf } = layoutOf(parsePrefix(text)!);
    t.same([hosts.low, hosts.high, choosable.high].map(addressOf), addresses, text);
  }
});

void test('every address of the subnet is one slot, and no other is', async (t) => {
  t.doesNotThrow(() => fc.assert(fc.property(prefix, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.boolean(), (pool, at, outside) => {
    const layout = layoutOf(pool);
    const last = lastOf(pool);
    const inside = pool.base + at % (last - pool.base + 1n);
    const slot = layout.slotOf(formatIp(pool.family, inside))!;
    if (outside && last + 1n < 1n << BigInt(pool.family === 4 ? 32 : 128) && layout.slotOf(formatIp(pool.family, last + 1n))) return false;
    return layout.addressOf(slot) === formatIp(pool.family, inside) && isBlock(layout, slot.block) && slot.offset < layout.blockSize
      && isWithin(slot, boundsOf(layout, pool)) && (isWithin(slot, layout.hosts) !== layout.edges.some((edge) => layout.addressOf(edge) === layout.addressOf(slot)));
  }), { numRuns: 2000 }));
  t.ok(isEmpty({ low: { block: 2, offset: 0 }, high: { block: 1, offset: 9 } }));
});
