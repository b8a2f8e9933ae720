import { test } from 'tap';
import { decodeBackup, encodeBackup } from './backup.ts';

const header = { created: '2026-01-02T03:04:05Z', node: 'h1', store: 'embedded', revision: 7 };
const entries = [{ key: 'a/é', value: '{"x":"\\n"}' }, { key: 'b', value: '' }];
const text = encodeBackup({ header, entries });
const CODE = 'WEFT-BACKUP';

void test('what was written is read', (t) => {
  t.same(decodeBackup(text, 'file'), { header: { format: 'weft-backup', version: 1, ...header, entries: 2 }, entries });
  t.same(decodeBackup(encodeBackup({ header, entries: [] }), 'file').entries, []);
  t.end();
});

void test('what is not whole is refused, wherever it was cut or changed', (t) => {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at++) {
    t.throws(() => decodeBackup(bytes.subarray(0, at).toString(), 'file'), { code: CODE }, `cut at ${at}`);
    const changed = Buffer.from(bytes);
    changed[at]! ^= 1;
    t.throws(() => decodeBackup(changed.toString(), 'file'), { code: CODE }, `changed at ${at}`);
  }
  const [first, ...rest] = text.split('\n');
  t.throws(() => decodeBackup([first, ...rest.slice(1)].join('\n'), 'file'), { code: CODE });
  t.throws(() => decodeBackup(encodeBackup({ header, entries }).replace('"version":1', '"version":2'), 'file'), { code: CODE, message: /version 2/ });
  t.end();
});
