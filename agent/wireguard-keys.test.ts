import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { silentLogger } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { wireguardKeys } from './wireguard-keys.ts';

const HOUR_MS = 3_600_000;

test('keys are made when they are asked for, kept, and renewed', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-keys-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const directory = join(folder, 'identity');
  const clock = new VirtualClock();
  const { current: keys } = wireguardKeys(directory, clock, silentLogger);
  t.throws(() => statSync(directory), { code: 'ENOENT' });
  const first = keys();
  t.equal(Buffer.from(first.publicKey, 'base64').length, 32);
  const file = join(directory, 'wireguard.json');
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.match(wireguardKeys(directory, clock, silentLogger).current(), first, 'the next start has the same');
  await clock.advance(12 * HOUR_MS);
  t.match(keys(), first);
  await clock.advance(HOUR_MS);
  const second = keys();
  t.not(second.privateKey, first.privateKey);
  t.match(readFileSync(file, 'utf8'), second.privateKey, 'on disk before it is used');
  writeFileSync(file, '{"publicKey":');
  t.not(wireguardKeys(directory, clock, silentLogger).current().publicKey, second.publicKey, 'a file that is none is replaced');
});

test('they are renewed when somebody asks, once for each time', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-keys-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const clock = new VirtualClock();
  const start = () => wireguardKeys(directory, clock, silentLogger);
  const before = start();
  t.equal(before.renew('one'), false, 'nobody has any yet');
  const first = before.current();
  t.equal(before.renew('one'), false);
  t.equal(before.current(), first, 'those were made after that');
  t.equal(before.renew('two'), true);
  const second = before.current();
  t.not(second.publicKey, first.publicKey);
  const after = start();
  t.match(after.current(), second);
  t.equal(after.renew('two'), false, 'the next start hears of it once more');
  t.match(after.current(), second);
  await clock.advance(13 * HOUR_MS);
  const third = start();
  t.not(third.current().publicKey, second.publicKey);
  t.equal(third.renew('two'), false, 'nor when they have grown old since');
});

test('where the disk takes no new keys, the old ones go on', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-keys-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const clock = new VirtualClock();
  const warnings: string[] = [];
  const { current: keys } = wireguardKeys(directory, clock, { ...silentLogger, warn: (_, message) => void warnings.push(message ?? '') });
  const obstacle = join(directory, 'wireguard.json.new');
  mkdirSync(obstacle);
  t.throws(keys, { code: 'EISDIR' }, 'there are none');
  rmSync(obstacle, { recursive: true });
  const first = keys();
  mkdirSync(obstacle);
  await clock.advance(13 * HOUR_MS);
  t.match([keys(), keys()], [first, first]);
  t.match(warnings, [/could not be renewed/], 'said once');
  rmSync(obstacle, { recursive: true });
  t.not(keys().publicKey, first.publicKey);
});
