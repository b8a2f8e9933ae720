import fc from 'fast-check';
import { test } from 'tap';
import { formatToken, newSecret, parseToken, sameSecret } from './token.ts';

test('a token is read as it was written', (t) => {
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
  t.doesNotThrow(() => fc.assert(fc.property(hash, fc.integer({ min: 1, max: 65_535 }), (authority, port) => {
    const token = { authority, secret: newSecret(), host: port % 2 === 0 ? '10.0.0.1' : '2001:db8::1', port };
    const read = parseToken(`  ${formatToken(token)}\n`);
    return JSON.stringify(read) === JSON.stringify(token);
  })));
  t.match(formatToken({ authority: 'f'.repeat(64), secret: newSecret(), host: '10.0.0.1', port: 7947 }), /^weft1-[0-9a-z]{50}-[0-9a-z]{25}@10\.0\.0\.1:7947$/);
  t.match(formatToken({ authority: 'f'.repeat(64), secret: newSecret(), host: '2001:db8::1', port: 7947 }), /@\[2001:db8::1\]:7947$/);
  t.end();
});

test('what is not one is refused without repeating it', (t) => {
  const good = formatToken({ authority: '0'.repeat(64), secret: newSecret(), host: '10.0.0.1', port: 7947 });
  t.equal(parseToken(good.replace(':7947', '')).port, 7947, 'the port may be left out');
  for (const text of ['', 'weft1', good.slice(0, 40), good.replace('weft1', 'weft2'), good.replace('10.0.0.1', 'host'), good.replace('10.0.0.1', '10.0.0.999'), good.replace('10.0.0.1', '2001:db8::1'), good.replace('10.0.0.1', '[2001:db8::1::]'), good.replace('7947', '0'), good.replace('7947', '77777'), good.replace(/^weft1-./, 'weft1-z'.padEnd(7)), good.replace(/-[0-9a-z]{25}@/, '-short@'), `${good}x`]) {
    t.throws(() => parseToken(text), { code: 'WEFT-TOKEN-MALFORMED' });
    try {
      parseToken(text);
    } catch (error) {
      t.notMatch((error as Error).message, /0{20}/);
    }
  }
  t.doesNotThrow(() => fc.assert(fc.property(fc.string({ maxLength: 200 }), (text) => {
    try {
      parseToken(text);
      return false;
    } catch (error) {
      return (error as { code?: string }).code === 'WEFT-TOKEN-MALFORMED';
    }
  })));
  t.ok(sameSecret('abc', 'abc'));
  t.notOk(sameSecret('abc', 'abcd'));
  t.end();
});
