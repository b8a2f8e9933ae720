/** Messages between nodes about soft state: a version byte and JSON. */
import * as v from 'valibot';
import type { Progress, Shipment } from './owner.ts';
import type { TableName } from './state.ts';

const VERSION = 2;
const MAX_OWNERS = 10_000;
const MAX_RECORDS = 100_000;
const MAX_TEXT = 255;
/** Of a DNS record. */
const MAX_VALUE = 1_024;

/** owner → how far the sender is with it. */
export type Digest = Record<string, Progress>;

export type StateMessage =
  | { kind: 'records'; from: string; shipments: Shipment[] }
  /** whole: owners that it does not mention are unknown to the sender. reply: the sender wants to know what the receiver lacks. */
  | { kind: 'digest'; from: string; owners: Digest; whole: boolean; reply: boolean };

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const text = v.pipe(v.string(), v.maxLength(MAX_TEXT));
const id = v.pipe(text, v.minLength(1));
const ip = v.pipe(text, v.ip());
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535));
const protocol = v.picklist(['tcp', 'udp', 'sctp']);
const list = <T extends v.GenericSchema>(item: T) => v.pipe(v.array(item), v.maxLength(1000));

/** Fields that a newer version added are let through: they are for the newer one. */
const VALUES = {
  node: v.looseObject({
    id, name: text, number: count, vtep: ip, underlayMtu: count, pathMtu: v.optional(count), occupied: list(v.looseObject({ prefix: text, by: v.string() })), skippedPorts: list(text), gossipKeys: v.optional(count),
    wireguard: v.optional(v.looseObject({ publicKey: v.pipe(text, v.regex(/^[A-Za-z0-9+/]{43}=$/)), port })),
  }),
  endpoint: v.looseObject({ networkId: id, endpointId: id, ip, ip6: v.optional(ip), mac: v.pipe(text, v.mac()) }),
  name: v.looseObject({
    networkId: id, networkName: text, endpointId: id, ip, ip6: v.optional(ip), name: text, names: list(text), service: text, ports: v.optional(list(text)), unready: v.optional(v.boolean()),
    records: v.optional(list(v.looseObject({ name: text, type: text, value: v.pipe(v.string(), v.maxLength(MAX_VALUE)) }))),
  }),
  backend: v.looseObject({ networkId: id, endpointId: id, ip, ip6: v.optional(ip), protocol, port, targetPort: port, service: text, mode: v.picklist(['ingress', 'host']), hostIp: v.optional(ip) }),
} satisfies Record<TableName, v.GenericSchema>;

const record = v.tuple([v.string(), text, count, v.unknown()]);
const MessageSchema = v.variant('kind', [
  v.object({
    kind: v.literal('records'), from: id,
    shipments: v.pipe(v.array(v.object({
      owner: id, epoch: count, from: count, upTo: count, completeAt: count,
      records: v.pipe(v.array(record), v.maxLength(MAX_RECORDS)), kept: v.optional(v.pipe(v.array(count), v.maxLength(MAX_RECORDS))),
    })), v.maxLength(MAX_OWNERS)),
  }),
  v.object({
    kind: v.literal('digest'), from: id, whole: v.boolean(), reply: v.boolean(),
    owners: v.custom<Digest>(isDigest),
  }),
]);

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** By hand: every node reads one of all owners every two seconds, and a schema takes three times as long. */
function isDigest(value: unknown): boolean {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return false;
  const entries = Object.entries(value as Record<string, unknown>);
  return entries.length <= MAX_OWNERS && entries.every(([owner, progress]) =>
    owner.length > 0 && owner.length <= MAX_TEXT && owner !== '__proto__' && Array.isArray(progress) && progress.length === 2 && progress.every(isCount));
}

export const encodeMessage = (message: StateMessage): Buffer => Buffer.concat([Buffer.of(VERSION), Buffer.from(JSON.stringify(message))]);

/**
 * undefined for anything that is not a message of this version. Records that make no sense to this version are left
 * out (and counted): the others still count, and asking for them again would bring the same.
 */
export function decodeMessage(data: Buffer): { message: StateMessage; leftOut: number } | undefined {
  if (data[0] !== VERSION) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(data.toString('utf8', 1));
  } catch {
    return undefined;
  }
  const result = v.safeParse(MessageSchema, parsed);
  if (!result.success) return undefined;
  if (result.output.kind === 'digest') return { message: result.output, leftOut: 0 };
  let leftOut = 0;
  const shipments = result.output.shipments.map((shipment): Shipment => {
    const records = shipment.records.filter(isKnown);
    leftOut += shipment.records.length - records.length;
    return { ...shipment, records };
  });
  return { message: { ...result.output, shipments }, leftOut };
}

function isKnown(record: readonly [string, string, number, unknown]): record is Shipment['records'][number] {
  const [table, , , value] = record;
  return Object.hasOwn(VALUES, table) && (value === null || v.is(VALUES[table as TableName], value));
}
