/** What a container's labels say about names: `weft.dns.names=a.b.test,*.app.test`, further names of it on all its networks. */
import { errorText, weftError } from '../../base/errors.ts';
import { parseRecordName } from '../../dns/record-values.ts';

const PREFIX = 'weft.dns.';
const NAMES = `${PREFIX}names`;
/** All of an endpoint's names travel in one record. */
const MOST_NAMES = 64;

export interface DnsLabels {
  names: string[];
  /** What is wrong with them, and what to write instead; the rest counts. */
  problems: string[];
}

export function dnsLabels(labels: Readonly<Record<string, string>>): DnsLabels {
  const names: string[] = [];
  const problems = Object.keys(labels).filter((label) => label.startsWith(PREFIX) && label !== NAMES)
    .map((label) => weftError('WEFT-OPTION-UNKNOWN', { driver: 'dns', option: `${label} (a label)`, hint: `use ${NAMES}` }).message);
  for (const text of (labels[NAMES] ?? '').split(',').map((each) => each.trim())) {
    if (text === '') continue;
    if (names.length === MOST_NAMES) {
      problems.push(weftError('WEFT-OPTION-VALUE', { option: NAMES, value: `more than ${MOST_NAMES} names`, hint: 'use a wildcard, such as *.app.test' }).message);
      break;
    }
    try {
      names.push(parseRecordName(text, { wildcard: true }));
    } catch (error) {
      problems.push(errorText(error));
    }
  }
  return { names, problems };
}
