/** Messages between nodes about soft state: a version byte and JSON. What cannot be read is dropped and counted by the caller. */
import * as v from 'valibot';
import type { Shipment } from './owner.ts';
import type { TableName } from './state.ts';

const VERSION = 1;
const TABLES = ['node', 'endpoint', 'name', 'backend'] as const satisfies readonly TableName[];

/** owner → [epoch, upTo, completeAt] */
export type Digest = Record<string, [epoch: number, upTo: number, completeAt: number]>;
export type StateMessage = { kind: 'records'; shipments: Shipment[] } | { kind: 'digest'; digest: Digest; /** An answer is wanted. */ ask: boolean };

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const text = v.pipe(v.string(), v.maxLength(255));
const MessageSchema = v.variant('kind', [
  v.object({
    kind: v.literal('records'),
    shipments: v.array(v.object({
      owner: text, epoch: count, from: count, upTo: count, completeAt: count, full: v.boolean(),
      records: v.array(v.tuple([v.picklist(TABLES), text, count, v.nullable(v.record(v.string(), v.unknown()))])),
    })),
  }),
  v.object({ kind: v.literal('digest'), ask: v.boolean(), digest: v.record(text, v.tuple([count, count, count])) }),
]);

export const encodeMessage = (message: StateMessage): Buffer => Buffer.concat([Buffer.of(VERSION), Buffer.from(JSON.stringify(message))]);

/** undefined for anything that is not a message of ours. */
export function decodeMessage(data: Buffer): StateMessage | undefined {
  if (data[0] !== VERSION) return undefined;
  try {
    const result = v.safeParse(MessageSchema, JSON.parse(data.toString('utf8', 1)));
    return result.success ? (result.output as unknown as StateMessage) : undefined;
  } catch {
    return undefined;
  }
}
