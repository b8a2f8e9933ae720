/** What one node tells another about where it is, readable and forgeable only with the cluster's key. */
import * as v from 'valibot';
import type { Random } from '../base/random.ts';
import type { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';

/** Binds the seal to its purpose: a gossip packet is no beacon. */
const PURPOSE = Buffer.from('weft beacon 1');

const Schema = v.object({
  kind: v.picklist(['who', 'here']),
  host: v.pipe(v.string(), v.ipv4()),
  port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)),
});

/** `who`: it looks for others. `here`: the answer. Both say where the sender's gossip listens. */
export interface Beacon { kind: 'who' | 'here'; from: Address }

export const sealBeacon = ({ kind, from }: Beacon, keyring: Keyring, random: Random): Buffer =>
  keyring.seal(Buffer.from(JSON.stringify({ kind, host: from.host, port: from.port })), PURPOSE, random);

/** undefined for what no key opens or what makes no sense. */
export function openBeacon(data: Buffer, keyring: Keyring): Beacon | undefined {
  const opened = keyring.open(data, PURPOSE);
  if (!opened) return undefined;
  try {
    const { kind, host, port } = v.parse(Schema, JSON.parse(opened.toString()));
    return { kind, from: { host, port } };
  } catch {
    return undefined;
  }
}
