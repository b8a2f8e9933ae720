import { strict as assert } from 'node:assert';
import { test } from 'tap';
import { WeftError } from '../base/errors.ts';
import { createOwnRecords, type OwnName } from './own-records.ts';
import { RECORD_TYPE_CODES, parseRecordName, parseRecordType, parseRecordValue, recordData, type RecordType } from './record-values.ts';
import { wildcardFor } from './wildcard.ts';

const NETWORKS = [{ id: 'n1' }, { id: 'n2' }];
const own = (name: string, sets: OwnName['sets'], networkId?: string): OwnName => ({ name, sets, ...(networkId !== undefined && { networkId }) });
const A = (...values: string[]): OwnName['sets'] => ({ A: { values } });

test('names and values are brought into one form', async (t) => {
  t.equal(parseRecordName('DB.Test.'), 'db.test');
  t.equal(parseRecordName('*.App.test', { wildcard: true }), '*.app.test');
  t.equal(parseRecordName('_sip._udp.test'), '_sip._udp.test');
  t.equal(parseRecordType('aaaa'), 'AAAA');
  t.equal(parseRecordValue('AAAA', 'FD00:0:0::0007'), 'fd00::7');
  t.equal(parseRecordValue('SRV', ' 00 5  5060 SIP.test.'), '0 5 5060 sip.test');
  t.equal(parseRecordValue('CNAME', 'API.'), 'api');
});

test('bad ones are refused with what to write instead', async (t) => {
  const refused = (act: () => unknown, pattern: RegExp): void => {
    try {
      act();
      t.fail(`this should be refused: ${String(act)}`);
    } catch (error) {
      assert(error instanceof WeftError);
      t.equal(error.code, 'WEFT-RECORD-MALFORMED');
      t.match(error.message, pattern);
    }
  };
  for (const name of ['', '.', 'a..b', 'a b', '-a', 'a-', 'x'.repeat(64), `${'a.'.repeat(126)}ab`]) refused(() => parseRecordName(name), /cannot be in a DNS record/);
  refused(() => parseRecordName('müller.test'), /Punycode/);
  refused(() => parseRecordName('*.test'), /first part of a longer name/);
  for (const name of ['*', 'a.*.test', '*.*.test']) refused(() => parseRecordName(name, { wildcard: true }), /\*\.app\.test/);
  refused(() => parseRecordType('MX'), /A, AAAA, CNAME, SRV, TXT/);
  refused(() => parseRecordValue('A', 'fd00::7'), /use the type AAAA/);
  refused(() => parseRecordValue('AAAA', '10.0.0.1'), /use the type A$/);
  refused(() => parseRecordValue('A', '10.0.0.01'), /10\.192\.4\.7/);
  refused(() => parseRecordValue('CNAME', '10.0.0.1'), /use the type A or AAAA/);
  for (const value of ['5060 sip.test', '0 0 65536 sip.test', '0 0 80 *.test']) refused(() => parseRecordValue('SRV', value), /for example|\*\.app\.test/);
  refused(() => parseRecordValue('TXT', 'x'.repeat(1025)), /1 to 1024 bytes/);
});

test('a long text is several strings on the wire', async (t) => {
  const bytes = recordData('TXT', 'é'.repeat(200));
  t.same([bytes[0], bytes[256], bytes.length], [255, 145, 402]);
  t.equal(Buffer.from(recordData('SRV', '1 2 80 a.b')).toString('hex'), '0001000200500161016200');
});

test('the closest wildcard covers a name, unless it stands below one that exists', async (t) => {
  const names = new Set(['*.test', '*.app.test', 'db.test']);
  const of = (name: string): string | undefined => wildcardFor(name, (each) => names.has(each));
  t.equal(of('a.test'), '*.test');
  t.equal(of('a.app.test'), '*.app.test');
  t.equal(of('a.b.app.test'), '*.app.test');
  t.equal(of('x.db.test'), undefined);
  t.equal(of('test'), undefined);
  t.equal(of('www.example'), undefined);
});

test('networks first, then what is for all; addresses lead back to names', async (t) => {
  const records = createOwnRecords();
  const values = (name: string, type: RecordType = 'A'): unknown[] => records.find(NETWORKS, name).map((sets) => sets.get(RECORD_TYPE_CODES[type])?.values);
  t.same(values('db.test'), []);
  records.put(own('db.test', A('10.0.0.1')));
  records.put(own('db.test', { ...A('10.2.0.1'), TXT: { values: ['x'], ttl: 60 } }, 'n2'));
  records.put(own('db.test', A('10.9.0.1'), 'n9'));
  t.same(values('db.test'), [['10.2.0.1'], ['10.0.0.1']], 'those of a network that the sandbox is not on are not there');
  t.same(values('db.test', 'TXT'), [['x'], undefined]);
  records.put(own('*.app.test', A('10.0.0.7')));
  t.equal(records.findCovering(NETWORKS, 'a.app.test').length, 1);
  t.equal(records.findCovering(NETWORKS, 'app.test').length, 0);
  records.put(own('also.test', A('10.2.0.1'), 'n2'));
  t.equal(records.nameOf(NETWORKS, '10.2.0.1'), 'also.test', 'the first by alphabet');
  t.equal(records.nameOf(NETWORKS, '10.0.0.7'), undefined, 'a wildcard is nobody\'s name');
  t.equal(records.nameOf(NETWORKS, '10.9.0.1'), undefined);
  const before = records.version;
  records.remove('n2', 'also.test');
  records.remove('n2', 'also.test');
  t.equal(records.version, before + 1);
  t.equal(records.nameOf(NETWORKS, '10.2.0.1'), 'db.test');
});
