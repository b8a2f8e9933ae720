import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { errorsPage } from './errors-page.ts';
import { ERRORS, WeftError, weftError } from './errors.ts';

test('every code says what happened and what to do', (t) => {
  for (const [code, { cause, fix }] of Object.entries(ERRORS)) {
    t.match(code, /^WEFT(-[A-Z][A-Z0-9]*)+$/);
    t.ok(cause.length > 10 && fix.length > 5, code);
    t.notMatch(cause + fix, /\.$/, `${code}: texts are put together, so they end without a full stop`);
  }
  t.end();
});

test('messages are complete', (t) => {
  const error = weftError('WEFT-PORT-HELD', { port: 80, proto: 'tcp', service: 'web' });
  t.ok(error instanceof WeftError);
  t.equal(error.message, 'WEFT-PORT-HELD: port 80/tcp belongs to service web; choose another host port, or stop that service; `weft ps` shows who publishes what');
  t.end();
});

test('the reference page is up to date', (t) => {
  t.equal(readFileSync(new URL('../docs/reference/errors.md', import.meta.url), 'utf8'), errorsPage(), 'run: node base/errors-page.ts > docs/reference/errors.md');
  t.end();
});
