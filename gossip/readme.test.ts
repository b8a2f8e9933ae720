/** What the README says holds: its example runs as it stands there, its tables name every option and the values that are used. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import { createGossip } from './gossip.ts';
import { Keyring } from './keyring.ts';
import { openTransport } from './net-transport.ts';
import { PROFILES, type Tuning } from './tuning.ts';

const HERE = import.meta.dirname;
const readme = readFileSync(join(HERE, 'README.md'), 'utf8');
/** The cells of the table's row that begins with this. */
const row = (first: string): string[] | undefined => readme.split('\n').find((line) => line.startsWith(`| \`${first}\` |`))?.split('|').map((cell) => cell.trim()).slice(2, -1);

void test('the example joins, speaks and leaves', async (t) => {
  const heard: string[] = [];
  const seen: string[] = [];
  const transport = await openTransport({ bind: { host: '127.0.2.7', port: 7946 } });
  const other = createGossip({
    name: 'n2', transport, clock, random, log, keyring: new Keyring(Buffer.alloc(32, 'the same on every node')), delegate: { onMessage: (message) => heard.push(message.toString()) },
  });
  t.teardown(() => other.shutdown());
  other.watch(({ type, member }) => seen.push(`${type} ${member.name} ${member.state}`));

  const example = /```ts\n(.*?)```/s.exec(readme)![1]!.replace('192.0.2.1', '127.0.2.6').replace('192.0.2.2', '127.0.2.7').replaceAll(/'\.\.?\/[\w/.-]+'/g, (path) => `'${join(HERE, path.slice(1, -1))}'`);
  const program = join(t.testdir({ 'example.ts': example }), 'example.ts');
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'pipe'], timeout: 30_000 });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
  const [code] = await once(child, 'close') as [number | null];
  t.equal(code, 0, 'it ends by itself');
  t.equal(output, 'join n2 alive\njoined through 1 of them\n');
  for (let i = 0; i < 50 && heard.length < 2; i++) await wait(20);
  t.same([...new Set(heard)].sort(), ['to all, beside other packets', 'to one, for sure']);
  t.same(seen, ['join n1 alive', 'leave n1 left']);
});

void test('the table of knobs names each, with the values of each profile', async (t) => {
  for (const knob of Object.keys(PROFILES.lan) as (keyof Tuning)[]) {
    t.same(row(knob)?.slice(0, 4), (['lan', 'wan', 'local', 'fast'] as const).map((profile) => String(PROFILES[profile][knob])), knob);
    t.ok(row(knob)![4]!.length > 10, `${knob}: what comes of it`);
  }
});

void test('the table of options names each', async (t) => {
  const source = ['gossip.ts', 'envelope.ts'].map((file) => /interface (?:Gossip|Envelope)Options .*?\n\}/s.exec(readFileSync(join(HERE, file), 'utf8'))![0]).join('\n');
  const options = [...source.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name!);
  t.ok(options.length > 15);
  const named = readme.slice(readme.indexOf('## Options'), readme.indexOf('## Tuning'));
  t.same(options.filter((option) => !named.includes(`\`${option}\``)), []);
});
