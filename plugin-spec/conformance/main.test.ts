/** The command: what it prints, and its exit status. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { examplePlugin, ipamDriver, networkDriver, type Handler } from './example-plugin.ts';
import type { Report } from './conformance.ts';

async function serve(t: Test, handlers: Record<string, Handler>): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const server = examplePlugin(handlers);
  await new Promise<void>((resolve) => server.listen(join(directory, 'p.sock'), resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
    rmSync(directory, { recursive: true, force: true });
  });
  return join(directory, 'p.sock');
}

interface Ended { code: number | null; stdout: string; stderr: string }

function command(args: string[], signal?: AbortSignal): Promise<Ended> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  signal?.addEventListener('abort', () => child.kill('SIGINT'));
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
}

test('a plugin that conforms, in words and in JSON', async (t) => {
  const socket = await serve(t, { ...networkDriver(), ...ipamDriver() });
  const words = await command([socket, '--subnet', '10.65.0.0/16']);
  t.equal(words.code, 0, words.stderr);
  t.match(words.stdout, /^ok {6}network /m);
  t.match(words.stdout, /Conforms: \d+ checks hold, 0 failed, 0 with advice, 2 skipped\.$/m);
  const { code, stdout } = await command([socket, '--json', '--only', 'network', '--only', 'pool', '--timeout', '5']);
  t.equal(code, 0);
  const report = JSON.parse(stdout) as Report;
  t.same(report.results.map(({ name, status }) => [name, status]), [['network', 'ok'], ['pool', 'ok']]);
  t.ok(report.conforms);
});

test('one that does not: what was seen and why it matters', async (t) => {
  const socket = await serve(t, { ...networkDriver(), 'NetworkDriver.Join': () => ({}) });
  const { code, stdout } = await command([socket, '--only', 'network']);
  t.equal(code, 1);
  t.match(stdout, /^FAIL {4}network .*\n +seen: NetworkDriver\.Join: InterfaceName.*\n +why: .*docker network create/m);
  t.match(stdout, /Does not conform/);
});

test('no plugin, and wrong arguments', async (t) => {
  for (const [args, message] of [
    [['/nonexistent/p.sock'], /no such file/],
    [[], /Expected one socket/],
    [['/nonexistent/p.sock', '--timeout', 'soon'], /expected seconds/],
    [['/nonexistent/p.sock', '--bogus'], /--bogus/],
  ] as const) {
    const { code, stdout, stderr } = await command([...args]);
    t.equal(code, 1, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, message);
    t.notMatch(stderr, /\n +at /, 'no stack');
  }
  t.match((await command(['--list'])).stdout, /^empty-host +any plugin +must/m);
});

test('interrupted by the user', async (t) => {
  const networks = new Set<unknown>();
  const correct = networkDriver();
  const interruption = new AbortController();
  const socket = await serve(t, {
    ...correct,
    'NetworkDriver.CreateNetwork': (body) => {
      networks.add(body['NetworkID']);
      return correct['NetworkDriver.CreateNetwork']!(body);
    },
    'NetworkDriver.DeleteNetwork': (body) => {
      networks.delete(body['NetworkID']);
      return correct['NetworkDriver.DeleteNetwork']!(body);
    },
    // Never answers: the kit waits when the signal comes.
    'NetworkDriver.Join': () => {
      interruption.abort();
      return new Promise(() => {});
    },
  });
  const started = performance.now();
  const { code, stdout } = await command([socket, '--timeout', '60'], interruption.signal);
  t.equal(code, 130);
  t.match(stdout, /Interrupted/);
  t.ok(performance.now() - started < 30_000, 'without waiting for the call');
  t.same([...networks], []);
});
