/** What the parts of the conformance kit share. */
import { randomBytes } from 'node:crypto';
import { readAnswer } from './answers.ts';
import type { PluginClient } from './plugin-client.ts';

export interface Kit {
  socketPath: string;
  sandboxDirectory: string;
  subnet(n: number): string;
  client: PluginClient;
  /** Runs one check; what it throws is the detail. */
  check(name: string, run: () => Promise<unknown>): Promise<void>;
  /** Throws unless the call is answered, and with a success. */
  ok(call: string, body?: unknown): Promise<Record<string, unknown>>;
  /** Throws unless the call is answered, and with an error. */
  refused(call: string, body?: unknown): Promise<string>;
}

/** As Docker makes them. */
export const newId = (): string => randomBytes(32).toString('hex');

export function expect(condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Error(otherwise);
}

/** Bodies that are none for any call with arguments. */
const NONSENSE = ['{', '{"NetworkID":', 'nonsense', 'null', '[]', '"text"', '7', `{"padding":"${'x'.repeat(2 * 1024 * 1024)}"}`];

/** For each call with arguments: an empty body, malformed JSON and wrong types are refused, and the plugin lives on. */
export async function checkBadInput({ client, check, refused }: Kit, calls: Record<string, Record<string, unknown>>, alive: string): Promise<void> {
  const live = async (): Promise<void> => expect((await client.post(alive)).status === 200, `${alive} fails afterwards`);
  const isRefused = async (call: string, body: string): Promise<void> => {
    const { error } = readAnswer(call, await client.post(call, body));
    expect(error !== undefined, `${call} accepts ${body.slice(0, 60) || 'an empty body'}`);
  };
  await check(`${alive.split('.')[0]}: a call repeated without its body is refused`, async () => {
    for (const call of Object.keys(calls)) await isRefused(call, '');
    await live();
  });
  await check(`${alive.split('.')[0]}: a body that is not a JSON object, or beyond 1 MiB, is refused`, async () => {
    for (const call of Object.keys(calls)) for (const body of NONSENSE) await isRefused(call, body);
    await live();
  });
  await check(`${alive.split('.')[0]}: wrong types are refused`, async () => {
    for (const [call, body] of Object.entries(calls)) {
      for (const key of Object.keys(body)) await refused(call, { ...body, [key]: typeof body[key] === 'number' ? 'text' : 7 });
    }
    await live();
  });
}
