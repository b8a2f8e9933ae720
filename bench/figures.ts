/** What benches share: order statistics, random order, the closing line. */
import { seededRandom, shuffle } from '../base/random.ts';

export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);
export const round = (value: number, digits = 3): number => Number(value.toFixed(digits));

const random = seededRandom(Date.now());
export const inRandomOrder = <T>(items: readonly T[]): T[] => shuffle([...items], random);

/** The line that a bench ends with. */
export function report(bench: string, ratios: Record<string, number>, figures: Record<string, number>): void {
  const rounded = (values: Record<string, number>): Record<string, number> => Object.fromEntries(Object.entries(values).map(([key, value]) => [key, round(value)]));
  console.log(JSON.stringify({ bench, ratios: rounded(ratios), figures: rounded(figures) }));
}

export async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}
