import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { test } from 'tap';
import { parseConfig } from '../agent/config.ts';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import { addBackupCommands } from './backup.ts';

void test('`weft backup` on one host, `weft restore` on another', async (t) => {
  const dataDir = t.testdir();
  const file = join(dataDir, 'backup');
  const said: string[] = [];
  const weft = async (...args: string[]): Promise<void> => {
    const program = new Command('weft').exitOverride();
    addBackupCommands(program, {
      ask: async <T>() => ({ node: 'h1', store: 'embedded', revision: 9, entries: [{ key: 'a', value: '"1"' }] }) as T,
      show: (answer, text) => said.push(text(answer)),
      config: () => parseConfig(JSON.stringify({ advertise: '10.0.0.1', dataDir }), 'test'),
    });
    await program.parseAsync(args, { from: 'user' });
  };
  await weft('backup', file);
  t.equal(statSync(file).mode & 0o77, 0, 'it holds keys');
  t.match(said, [/1 entries of h1's store/]);
  await weft('restore', file);
  const store = openSqliteStore(join(dataDir, 'store.db'), { clock, log });
  t.match((await store.range('')).entries, [{ key: 'a', value: '"1"' }]);
  await store.close();

  await t.rejects(weft('restore', join(dataDir, 'none')), { code: 'WEFT-BACKUP', message: /ENOENT/ });
  await t.rejects(weft('backup', join(dataDir, 'none/file')), { code: 'WEFT-BACKUP', message: /ENOENT/ });
  writeFileSync(file, readFileSync(file, 'utf8').replace('\\"1\\"', '\\"2\\"'));
  await t.rejects(weft('restore', file), { code: 'WEFT-BACKUP', message: /not what was written/ });
});
