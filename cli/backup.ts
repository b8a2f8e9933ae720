/** `weft backup` and `weft restore`. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { BackupAnswer } from '../agent/api.ts';
import type { Config } from '../agent/config.ts';
import { restoreStore } from '../agent/restore.ts';
import { systemClock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import { silentLogger } from '../base/log.ts';
import { type Backup, decodeBackup, encodeBackup } from '../store/backup.ts';
import { writeDurably } from '../store/files.ts';

interface Tools {
  ask<T>(method: string, path: string): Promise<T>;
  show<T>(answer: T, text: (answer: T) => string): void;
  config(): Config;
}

function read(path: string): { text: string; backup: Backup } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw weftError('WEFT-BACKUP', { path, detail: errorText(error) }, { cause: error });
  }
  return { text, backup: decodeBackup(text, path) };
}

const described = ({ header }: Backup): string => `${header.entries} entries of ${header.node}'s store (${header.store}) as of ${header.created}`;

export function addBackupCommands(program: Command, { ask, show, config }: Tools): void {
  program.command('backup <file>').description('write networks, addresses, ports and keys to a file (secret: 0600)').action(async (file: string) => {
    const { node, store, revision, entries } = await ask<BackupAnswer>('GET', 'backup');
    try {
      writeDurably(file, encodeBackup({ header: { created: new Date().toISOString(), node, store, revision }, entries }));
    } catch (error) {
      throw weftError('WEFT-BACKUP', { path: file, detail: errorText(error) }, { cause: error });
    }
    const { backup } = read(file);
    show({ file, ...backup.header }, () => `${file}: ${described(backup)}`);
  });

  program.command('restore <file>').description('make a backup this host\'s store; weftd must be stopped (`weft down`)').action(async (file: string) => {
    const { text, backup } = read(file);
    const { others } = await restoreStore(config(), backup.entries, { id: createHash('sha256').update(text).digest('hex'), clock: systemClock, log: silentLogger });
    show({ file, ...backup.header, others }, () => [
      `restored ${described(backup)}; start it with \`weft up\``,
      ...(others.length === 0 ? [] : [
        'This host is alone in it. Those that were in the cluster then have to join again (`weft down --purge`, then `weft join`):',
        ...others.map(({ id, name }) => `  ${name.padEnd(12)} its addresses are kept for it until \`weft ipam reclaim ${id}\``),
      ]),
    ].join('\n'));
  });
}
