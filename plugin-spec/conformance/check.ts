/** What a check of the conformance kit is. */
import type { Kit } from './kit.ts';

export type Driver = 'NetworkDriver' | 'IpamDriver';

export interface Check {
  /** For `--only` and for programs. */
  name: string;
  /** Absent: for every plugin. */
  driver?: Driver;
  /** 'must': else containers or networks fail. 'should': else Docker gets along, with warnings or on a bad day only. */
  level: 'must' | 'should';
  /** What a plugin has to do. */
  rule: string;
  /** What Docker does that makes it so. */
  why: string;
  /** Resolves when the plugin keeps the rule; rejects with what was seen, or with NotApplicable. */
  run(kit: Kit): Promise<void>;
}

export const checksOf = (driver: Driver, checks: readonly Omit<Check, 'driver'>[]): Check[] => checks.map((check) => ({ ...check, driver }));

/** Thrown by a check that has nothing to say about this plugin; the message is the reason. */
export class NotApplicable extends Error {}

export function expect(condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Error(otherwise);
}

/** All of them to their end, so that none goes on after the check; then the first failure is thrown. */
export async function allAtOnce<T>(promises: Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** Of a call that Docker makes again after each restart. */
export async function expectSameEachTime({ ok }: Kit, call: string): Promise<void> {
  const answers: string[] = [];
  for (let i = 0; i < 3; i++) answers.push(JSON.stringify(await ok(call)));
  expect(new Set(answers).size === 1, `answers differ: ${answers.join(', ')}`);
}
