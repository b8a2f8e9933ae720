/**
 * Every check of the project: static ones, unit tests beside the code, integration tests on real hosts. The last line
 * counts what really ran: one per static check, and every assertion of the tests.
 *
 *   npm test [-- static|unit|integration [PART OF A FILE NAME]]
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Parser } from 'tap-parser';
import { bundle } from './bundle.ts';

const ROOT = resolve(import.meta.dirname, '..');
const BIN = join(ROOT, 'node_modules/.bin');
const SIDE_BY_SIDE = 2;
/** Virtual machines, slow and patient: one at a time, since each keeps a processor busy, beside those that wait. */
const MACHINES = ['vm-ipvlan', 'vm'].map((name) => `integration/${name}.test.ts`);
/**
 * Integration tests that have hosts of their own, and most of the time nothing to do: a host has to be silent for long enough, an
 * address to rest, a store to move. The others measure, or fill the machine: one at a time.
 */
const WAITING = [
  'address-reuse', 'bad-input', 'ipv6', 'dead-host', 'alone', 'ipam', 'own-store', 'clone', 'external-etcd', 'readdress', 'reachability', 'islands', 'discovery',
  'hole-punching', 'outsider', 'compose', 'networks', 'time-of-day', 'macvlan', 'full-disk', 'removal', 'join', 'backup', 'dns-clients', 'host-names', 'own-records', 'ipv6-underlay',
].map((name) => `integration/${name}.test.ts`);
/** Clusters in trouble: they wait as well, for minutes, but not beside virtual machines. */
const TROUBLED = ['cluster-faults', 'interop-trouble'].map((name) => `integration/${name}.test.ts`);
/** Unit tests, and those in virtual machines, find there what Node has compiled before. Not what runs on hosts of the lab: it is as it ships. */
const COMPILED = { NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/weft-compiled') };
const UNIT_TIMEOUT_MS = 600_000;
const INTEGRATION_TIMEOUT_MS = 900_000;
/** What a file that takes too long has to take its hosts away, before it is killed. */
const TEARDOWN_S = 30;

const total = { passed: 0, failed: 0, skipped: 0 };
const [part = 'all', only = ''] = process.argv.slice(2);

interface Run { code: number; output: string; timedOut: boolean }

function execute(command: readonly string[], timeoutMs: number, environment: Record<string, string> = {}, onOutput?: (chunk: Buffer) => void): Promise<Run> {
  return new Promise((done) => {
    const [file, ...args] = command;
    const child = spawn(file!, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment, NO_COLOR: '1', TAP_TIMEOUT: String(timeoutMs / 1000 - TEARDOWN_S), PATH: `${BIN}:${process.env['PATH']}` } });
    let output = '';
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
    }, timeoutMs);
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      onOutput?.(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('close', (code) => {
      clearTimeout(timer);
      done({ code: code ?? 1, output, timedOut });
    });
  });
}

const seconds = (since: number): string => `${((Date.now() - since) / 1000).toFixed(1)} s`;
const indent = (text: string): string => text.trim().split('\n').slice(-60).map((line) => `      ${line}`).join('\n');

async function check(name: string, command: readonly string[] | (() => Promise<void>)): Promise<void> {
  const start = Date.now();
  let failure: string | undefined;
  if (typeof command === 'function') await command().catch((error: unknown) => (failure = String(error)));
  else {
    const { code, output } = await execute(command, UNIT_TIMEOUT_MS);
    if (code !== 0) failure = output;
  }
  total[failure === undefined ? 'passed' : 'failed']++;
  console.log(`${failure === undefined ? 'ok  ' : 'FAIL'}  ${name} (${seconds(start)})${failure === undefined ? '' : `\n${indent(failure)}`}`);
}

/** One file, as one process; its assertions are counted at every depth, and nothing else. */
async function testFile(file: string, timeoutMs: number): Promise<void> {
  const start = Date.now();
  const failures: string[] = [];
  const skips: string[] = [];
  let passed = 0;
  const watch = (parser: Parser, path: string): void => {
    parser.on('child', (child) => watch(child, `${path} › ${child.name}`));
    parser.on('assert', (assertion) => {
      // A subtest's closing line repeats what was counted inside.
      if (assertion.tapError) return;
      if (children.has(`${path} › ${assertion.name}`)) return;
      if (assertion.skip) skips.push(`${assertion.name}: ${typeof assertion.skip === 'string' ? assertion.skip : 'no reason given'}`);
      else if (assertion.ok || assertion.todo) passed++;
      else failures.push(`${path} › ${assertion.name}\n${JSON.stringify(assertion.diag ?? {}, undefined, 1)}`);
    });
    if (path !== '') children.add(path);
  };
  const children = new Set<string>();
  const parser = new Parser();
  watch(parser, '');
  const { code, output, timedOut } = await execute([join(BIN, 'node'), file], timeoutMs, !isIntegration(file) || MACHINES.includes(file) ? COMPILED : {}, (chunk) => parser.write(chunk.toString()));
  await new Promise<void>((done) => {
    parser.on('complete', () => done());
    parser.end();
  });
  if (timedOut) failures.push(`not finished within ${timeoutMs / 1000} s`);
  else if ((code !== 0 && failures.length === 0) || passed + failures.length + skips.length === 0) failures.push(`ended with code ${code}\n${output.slice(-3000)}`);
  total.passed += passed;
  total.failed += failures.length;
  total.skipped += skips.length;
  console.log(`${failures.length === 0 ? 'ok  ' : 'FAIL'}  ${file}: ${passed} passed${failures.length > 0 ? `, ${failures.length} failed` : ''} (${seconds(start)})`);
  for (const failure of failures) console.log(indent(failure));
  for (const skip of skips) console.log(`      skipped: ${skip}`);
}

async function testFiles(files: readonly string[], sideBySide: number, timeoutMs: number): Promise<void> {
  const waiting = files.filter((file) => file.includes(only));
  await Promise.all(Array.from({ length: sideBySide }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await testFile(file, timeoutMs);
  }));
}

/** The demo is the widest test there is: each of its checks counts. */
async function demo(): Promise<void> {
  const start = Date.now();
  const { output, timedOut } = await execute([join(BIN, 'node'), 'integration/demo.ts'], INTEGRATION_TIMEOUT_MS);
  const [, passed, failed] = (/^demo: (\d+) passed, (\d+) failed$/m.exec(output) ?? []).map(Number);
  const isComplete = passed !== undefined && failed !== undefined && !timedOut;
  total.passed += passed ?? 0;
  total.failed += isComplete ? failed : 1;
  console.log(`${isComplete && failed === 0 ? 'ok  ' : 'FAIL'}  integration/demo.ts: ${passed ?? 0} passed${isComplete ? '' : ', not finished'} (${seconds(start)})`);
  if (!isComplete || failed > 0) console.log(indent(output));
}

const all = globSync('{base,linux,cnm,store,gossip,cluster,ipam,drivers,dns,ingress,plugin-spec,agent,cli,integration}/**/*.test.ts', { cwd: ROOT }).sort();
const isIntegration = (file: string): boolean => file.startsWith('integration/');

if (part === 'all' || part === 'static') {
  await check('types', [join(BIN, 'tsc')]);
  await check('lint', [join(BIN, 'oxlint'), '--type-aware', '--deny-warnings']);
  await check('layers', [join(BIN, 'depcruise'), '--config', '.dependency-cruiser.cjs', 'base', 'linux', 'cnm', 'store', 'gossip', 'cluster', 'ipam', 'drivers', 'dns', 'ingress', 'plugin-spec', 'agent', 'cli', 'integration', 'bench', 'scripts']);
  await check('unused files, exports and dependencies', [join(BIN, 'knip')]);
  await check('bundle', bundle);
}
if (part === 'all' || part === 'unit') await testFiles(all.filter((file) => !isIntegration(file)), SIDE_BY_SIDE, UNIT_TIMEOUT_MS);
if (part === 'all' || part === 'integration') {
  if (part === 'integration') await bundle();
  const integration = all.filter(isIntegration);
  const withHosts = (files: readonly string[]): string[] => files.filter((file) => integration.includes(file));
  await Promise.all([testFiles(withHosts(MACHINES), 1, INTEGRATION_TIMEOUT_MS), testFiles(withHosts(WAITING), SIDE_BY_SIDE, INTEGRATION_TIMEOUT_MS)]);
  await testFiles(withHosts(TROUBLED), SIDE_BY_SIDE, INTEGRATION_TIMEOUT_MS);
  await testFiles(integration.filter((file) => ![...MACHINES, ...WAITING, ...TROUBLED].includes(file)), 1, INTEGRATION_TIMEOUT_MS);
  if ('integration/demo.ts'.includes(only)) await demo();
}

console.log(`\n${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
