/**
 * What a container's labels say about names, on all its networks: `weft.dns.names=a.b.test,*.app.test`, further names of it;
 * `weft.dns.TYPE.NAME=VALUE`, a record of any type that operators can write.
 */
import { errorText, weftError } from '../../base/errors.ts';
import { parseRecordName, parseRecordType, parseRecordValue, type RecordType } from '../../dns/record-values.ts';

const PREFIX = 'weft.dns.';
const NAMES = `${PREFIX}names`;
/** All of an endpoint's names travel in one record. */
const MOST_NAMES = 64;
const MOST_RECORDS = 16;
const RECORD = /^weft\.dns\.([^.]+)\.(.+)$/;

export interface DnsLabels {
  names: string[];
  records: { name: string; type: RecordType; value: string }[];
  /** What is wrong with them, and what to write instead; the rest counts. */
  problems: string[];
}

export function dnsLabels(labels: Readonly<Record<string, string>>): DnsLabels {
  function attempt(read: () => void): void {
    try {
      read();
    } catch (error) {
      problems.push(errorText(error));
    }
  }

  const names: string[] = [];
  const records: DnsLabels['records'] = [];
  const problems: string[] = [];
  for (const [label, value] of Object.entries(labels)) {
    if (!label.startsWith(PREFIX) || label === NAMES) continue;
    const [, type, name] = RECORD.exec(label) ?? [];
    if (type === undefined || name === undefined) {
      problems.push(weftError('WEFT-OPTION-UNKNOWN', { driver: 'dns', option: `${label} (a label)`, hint: `use ${NAMES}, or ${PREFIX}TYPE.NAME such as ${PREFIX}txt.db.test` }).message);
    } else if (records.length === MOST_RECORDS) {
      problems.push(weftError('WEFT-OPTION-VALUE', { option: label, value: `more than ${MOST_RECORDS} records`, hint: 'use `weft dns add`' }).message);
    } else {
      attempt(() => {
        const known = parseRecordType(type);
        records.push({ name: parseRecordName(name, { wildcard: true }), type: known, value: parseRecordValue(known, value) });
      });
    }
  }
  for (const text of (labels[NAMES] ?? '').split(',').map((each) => each.trim())) {
    if (text === '') continue;
    if (names.length === MOST_NAMES) {
      problems.push(weftError('WEFT-OPTION-VALUE', { option: NAMES, value: `more than ${MOST_NAMES} names`, hint: 'use a wildcard, such as *.app.test' }).message);
      break;
    }
    attempt(() => names.push(parseRecordName(text, { wildcard: true })));
  }
  return { names, records, problems };
}
