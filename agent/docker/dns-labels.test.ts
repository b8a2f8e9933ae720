import { test } from 'tap';
import { dnsLabels } from './dns-labels.ts';

test('names in a label', async (t) => {
  t.same(dnsLabels({ 'weft.service': 'x' }), { names: [], records: [], problems: [] });
  t.same(dnsLabels({ 'weft.dns.names': ' A.b.test, *.app.test ,,' }), { names: ['a.b.test', '*.app.test'], records: [], problems: [] });
});

test('records in labels', async (t) => {
  t.same(dnsLabels({ 'weft.dns.txt.Note.test': 'by us, and others', 'weft.dns.SRV._sip._udp.test': '0 5 5060 sip', 'weft.dns.cname.*.app.test': 'shop.test.' }).records, [
    { name: 'note.test', type: 'TXT', value: 'by us, and others' }, { name: '_sip._udp.test', type: 'SRV', value: '0 5 5060 sip' }, { name: '*.app.test', type: 'CNAME', value: 'shop.test' },
  ]);
  const { records, problems } = dnsLabels({ 'weft.dns.a.db.test': '10.0.0.300', 'weft.dns.mx.db.test': 'mail', 'weft.dns.txt.': 'x', 'weft.dns.aaaa.db.test': 'fd00::1' });
  t.same(records, [{ name: 'db.test', type: 'AAAA', value: 'fd00::1' }]);
  t.match(problems, [/WEFT-RECORD-MALFORMED.*10\.0\.0\.300/, /WEFT-RECORD-MALFORMED.*A, AAAA, CNAME, SRV, TXT/, /WEFT-OPTION-UNKNOWN.*weft\.dns\.txt\. /]);
  t.match(dnsLabels(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`weft.dns.txt.n${i}.test`, 'x']))), { records: { length: 16 }, problems: { length: 4 } });
});

test('what is wrong in a label is told, and the rest counts', async (t) => {
  const { names, problems } = dnsLabels({ 'weft.dns.names': 'good.test,not good,*', 'weft.dns.name': 'x' });
  t.same(names, ['good.test']);
  t.match(dnsLabels({ 'weft.dns.names': Array.from({ length: 70 }, (_, i) => `n${i}.test`).join() }), { names: { length: 64 }, problems: [/WEFT-OPTION-VALUE.*wildcard/] });
  t.match(problems, [/weft\.dns\.name .*use weft\.dns\.names/, /WEFT-RECORD-MALFORMED.*not good/, /WEFT-RECORD-MALFORMED.*\*\.app\.test/]);
});
