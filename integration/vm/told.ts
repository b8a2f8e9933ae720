/** What test files say that have run in the virtual machine. */
import type { Test } from 'tap';
import type { Outcome } from './machine.ts';

/** That nothing failed, and that tests of those names have run and were not skipped. */
export function told(t: Test, file: string, names: readonly string[], { code, output }: Outcome): void {
  const lines = output.split('\n');
  t.same(lines.filter((line) => /^ *not ok /.test(line)), [], `${file}: nothing failed`);
  t.equal(code, 0, `${file}: ${/^# \{ total: \d+.*$/m.exec(output)?.[0] ?? output.slice(-1000)}`);
  for (const name of names) t.ok(lines.some((line) => /^ *(?:ok \d+ - |# Subtest: )/.test(line) && line.includes(name) && !/# SKIP/i.test(line)), `${file}: ${name}`);
}
