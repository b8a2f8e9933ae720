import { test } from 'tap';
import { dnsLabels } from './dns-labels.ts';

test('names in a label', async (t) => {
  t.same(dnsLabels({ 'weft.service': 'x' }), { names: [], problems: [] });
  t.same(dnsLabels({ 'weft.dns.names': ' A.b.test, *.app.test ,,' }), { names: ['a.b.test', '*.app.test'], problems: [] });
});

test('what is wrong in a label is told, and the rest counts', async (t) => {
  const { names, problems } = dnsLabels({ 'weft.dns.names': 'good.test,not good,*', 'weft.dns.name': 'x' });
  t.same(names, ['good.test']);
  t.match(dnsLabels({ 'weft.dns.names': Array.from({ length: 70 }, (_, i) => `n${i}.test`).join() }), { names: { length: 64 }, problems: [/WEFT-OPTION-VALUE.*wildcard/] });
  t.match(problems, [/weft\.dns\.name .*use weft\.dns\.names/, /WEFT-RECORD-MALFORMED.*not good/, /WEFT-RECORD-MALFORMED.*\*\.app\.test/]);
});
