/**
 * The whole store in one file of JSON lines: a header, one line an entry, and a hash of all lines before. It holds secrets
 * (the gossip key), so whoever writes it makes it readable by its owner only.
 */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { weftError } from '../base/errors.ts';

const Header = v.object({
  format: v.literal('weft-backup'),
  version: v.number(),
  /** ISO 8601. */
  created: v.string(),
  /** Who made it, and from which store, for people. */
  node: v.string(),
  store: v.string(),
  revision: v.number(),
  entries: v.number(),
});
const BackupLine = v.strictObject({ key: v.pipe(v.string(), v.minLength(1)), value: v.string() });
const Trailer = v.object({ sha256: v.string() });

const VERSION = 1;

export type BackupHeader = v.InferOutput<typeof Header>;
export type BackupEntry = v.InferOutput<typeof BackupLine>;
export interface Backup { header: BackupHeader; entries: BackupEntry[] }

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');

/** `entries` are of one revision. */
export function encodeBackup({ header, entries }: { header: Omit<BackupHeader, 'format' | 'version' | 'entries'>; entries: readonly BackupEntry[] }): string {
  const first: BackupHeader = { format: 'weft-backup', version: VERSION, ...header, entries: entries.length };
  const text = [first, ...entries.map(({ key, value }) => ({ key, value }))].map((line) => `${JSON.stringify(line)}\n`).join('');
  return `${text}${JSON.stringify({ sha256: hashOf(text) })}\n`;
}

/** Throws WEFT-BACKUP for a file that is not whole, was changed, or was made by a later version. */
export function decodeBackup(text: string, path: string): Backup {
  const refuse = (detail: string): Error => weftError('WEFT-BACKUP', { path, detail });
  const lines = text.split('\n');
  const parse = <S extends v.GenericSchema>(schema: S, line: string | undefined, complaint: string): v.InferOutput<S> => {
    try {
      return v.parse(schema, JSON.parse(line ?? ''));
    } catch {
      throw refuse(complaint);
    }
  };
  const header = parse(Header, lines[0], 'it does not begin as one');
  if (header.version !== VERSION) throw refuse(`its format is version ${header.version}; this weft reads ${VERSION}`);
  if (lines.length < 3 || lines.at(-1) !== '') throw refuse('its end is missing');
  const { sha256 } = parse(Trailer, lines.at(-2), 'its end is missing');
  if (sha256 !== hashOf(`${lines.slice(0, -2).join('\n')}\n`)) throw refuse('its content is not what was written');
  const entries = lines.slice(1, -2).map((line) => parse(BackupLine, line, 'an entry cannot be read'));
  if (entries.length !== header.entries) throw refuse('entries are missing');
  return { header, entries };
}
