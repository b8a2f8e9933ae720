/** The report as text, for a plugin's author. */
import type { CheckResult, Report } from './conformance.ts';

const SIGNS = { ok: 'ok', failed: 'FAIL', advice: 'advice', skipped: 'skip' } as const;

/** A result as it comes; the rule and its reason where they are of use. */
export function resultText({ name, status, rule, why, detail }: CheckResult): string {
  const line = `${SIGNS[status].padEnd(7)} ${name.padEnd(20)} ${status === 'skipped' ? detail : rule}`;
  if (status === 'ok' || status === 'skipped') return line;
  const indent = ' '.repeat(8);
  return [line, `${indent}seen: ${detail}`, `${indent}why:  ${why}`].join('\n');
}

export function summaryText({ results, leftovers, conforms, interrupted }: Report): string {
  const count = (status: CheckResult['status']): number => results.filter((result) => result.status === status).length;
  const lines = [''];
  if (leftovers.length > 0) lines.push('The plugin keeps what the kit made, since these calls failed:', ...leftovers.map((each) => `  ${each}`));
  const verdict = interrupted ? 'Interrupted' : conforms ? 'Conforms' : 'Does not conform';
  return [...lines, `${verdict}: ${count('ok')} checks hold, ${count('failed')} failed, ${count('advice')} with advice, ${count('skipped')} skipped.`].join('\n');
}
