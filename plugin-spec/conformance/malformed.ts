/** Requests that are none. */
import { expect } from './check.ts';
import type { Kit } from './kit.ts';
import { readAnswer } from './answers.ts';

const NOT_OBJECTS = ['{', '{"NetworkID":', 'nonsense', 'null', '[]', '"text"', '7'];

async function isRefused(kit: Kit, call: string, body: string): Promise<boolean> {
  try {
    return readAnswer(call, await kit.raw(call, body)).error !== undefined;
  } catch (error) {
    throw new Error(`${call} with the body ${body || '(none)'}: ${(error as Error).message}`);
  }
}

/** `refused`: the calls that must not succeed; the others are to be answered. */
export async function refusesEmptyBody(kit: Kit, requests: Record<string, object>, refused: string[]): Promise<void> {
  for (const call of Object.keys(requests)) {
    if (refused.includes(call)) expect(await isRefused(kit, call, ''), `${call} is accepted without a body`);
    // An error and a success are both logged and no more.
    else await kit.raw(call, '');
  }
  await kit.ok('Plugin.Activate');
}

export async function malformed(kit: Kit, requests: Record<string, Record<string, unknown>>): Promise<void> {
  for (const [call, body] of Object.entries(requests)) {
    for (const text of NOT_OBJECTS) expect(await isRefused(kit, call, text), `${call} accepts the body ${text}`);
    for (const key of Object.keys(body)) await kit.refused(call, { ...body, [key]: 7 }, `accepted with 7 for ${key}`);
  }
  await kit.ok('Plugin.Activate');
}
