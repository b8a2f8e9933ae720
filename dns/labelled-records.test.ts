import { test } from 'tap';
import type { NameRecord } from '../cluster/state.ts';
import { createLabelledRecords } from './labelled-records.ts';
import { RECORD_TYPE_CODES, type RecordType } from './record-values.ts';
import { createOwnRecords } from './own-records.ts';

function scene() {
  const records = createOwnRecords();
  const labelled = createLabelledRecords(records);
  const put = (endpointId: string, ...texts: string[]): void => labelled.put({
    networkId: 'n1', networkName: 'web', endpointId, ip: '10.0.0.1', name: endpointId, names: [], service: endpointId,
    records: texts.map((text) => /^(?<name>\S+) (?<type>\S+) (?<value>.*)$/.exec(text)!.groups as NonNullable<NameRecord['records']>[number]),
  });
  const get = (name: string, type: RecordType, ...networks: string[]): string =>
    records.find((networks.length > 0 ? networks : ['n1']).map((id) => ({ id })), name).flatMap((sets) => sets.get(RECORD_TYPE_CODES[type])?.values ?? []).join(' ');
  return { records, labelled, put, get };
}

test('on their network, for as long as their container is there', async (t) => {
  const { records, labelled, put, get } = scene();
  put('e1', 'db.test A 10.9.0.1', 'note.test TXT by us', '*.app.test CNAME api');
  put('e2', 'db.test A 10.9.0.2', 'db.test A 10.9.0.1');
  t.equal(get('db.test', 'A'), '10.9.0.1 10.9.0.2');
  t.equal(get('db.test', 'A', 'n2'), '');
  t.equal(get('note.test', 'TXT'), 'by us');
  t.equal(records.findCovering([{ id: 'n1' }], 'x.app.test').length, 1);
  t.equal(records.nameOf([{ id: 'n1' }], '10.9.0.2'), 'db.test');
  put('e1', 'other.test A 10.9.0.3');
  t.equal(get('db.test', 'A'), '10.9.0.2 10.9.0.1', 'what it does not say any more');
  t.equal(get('note.test', 'TXT'), '');
  const { version } = records;
  labelled.remove('n1', 'e9');
  put('e3');
  t.equal(records.version, version, 'who has none changes nothing');
  for (const each of ['e1', 'e2', 'e3']) labelled.remove('n1', each);
  t.equal(get('db.test', 'A'), '');
  t.same(records.find([{ id: 'n1' }], 'other.test'), []);
});

test('the operator\'s own come first, whatever is removed', async (t) => {
  const { records, put, get } = scene();
  put('e1', 'db.test A 10.9.0.1');
  records.put({ name: 'db.test', sets: { A: { values: ['10.9.9.9'] } } });
  t.equal(get('db.test', 'A'), '10.9.9.9 10.9.0.1');
  records.remove(undefined, 'db.test');
  t.equal(get('db.test', 'A'), '10.9.0.1');
});

test('an alias is alone, and what cannot be a record is none', async (t) => {
  const { put, get } = scene();
  put('e1', 'www.test CNAME b.test');
  put('e2', 'www.test CNAME a.test');
  t.equal(get('www.test', 'CNAME'), 'a.test');
  put('e2', 'www.test TXT x');
  t.equal(get('www.test', 'CNAME'), '', 'beside others it does not count');
  t.equal(get('www.test', 'TXT'), 'x');
  put('e3', 'x.test A nonsense', 'y.test MX mail.test', '-.test A 10.0.0.1', 'z.test A 10.0.0.1');
  t.same(['x.test', '-.test', 'z.test'].map((name) => get(name, 'A')), ['', '', '10.0.0.1']);
});
