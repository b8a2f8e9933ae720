/** One call of the plugin protocol: how its body is read, who handles it, and how the answer is written. */
import * as v from 'valibot';
import { errorText, weftError } from '../base/errors.ts';
import type { MaybePromise } from './types.ts';

/** Takes the body as it came; gives the JSON object to answer with. */
export type Call = (body: Buffer) => Promise<object>;

const MAX_DETAIL = 200;
const clip = (detail: string): string => (detail.length > MAX_DETAIL ? `${detail.slice(0, MAX_DETAIL)}…` : detail);

/** A call without arguments: Docker sends no body, and one that comes all the same says nothing. */
export const plainCall = (answer: () => MaybePromise<object>): Call => async () => answer();

/** A call with arguments. Throws WEFT-INPUT-EMPTY, WEFT-INPUT-JSON, WEFT-INPUT-MALFORMED. */
export const call = <Request>(
  name: string, schema: v.GenericSchema<unknown, Request>, answer: (request: Request) => Promise<object>,
): [string, Call] => [name, async (body) => answer(read(name, schema, body))];

function read<Request>(name: string, schema: v.GenericSchema<unknown, Request>, body: Buffer): Request {
  // dockerd repeats a call whose connection broke without its body.
  if (body.length === 0) throw weftError('WEFT-INPUT-EMPTY', { call: name });
  let json: unknown;
  try {
    json = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw weftError('WEFT-INPUT-JSON', { detail: clip(errorText(error)) });
  }
  // To the schemas an array would be an object without any of the members.
  if (Array.isArray(json)) throw weftError('WEFT-INPUT-MALFORMED', { what: `the request of ${name}`, detail: 'it is an array' });
  const result = v.safeParse(schema, json, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue);
  throw weftError('WEFT-INPUT-MALFORMED', { what: `the request of ${name}`, detail: clip(path === null ? issue.message : `${path}: ${issue.message}`) });
}
