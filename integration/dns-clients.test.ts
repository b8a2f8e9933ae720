/**
 *   outside 10.99.9.10 (name server, UDP and TCP)
 *      |
 *   router
 *      |
 *     h1     Docker
 *      ├ dual (IPv4 and IPv6): udp, tcp (its resolv.conf says use-vc), search (with a search domain), api1, api2; a crowd of native sandboxes behind one name
 *      └ six (IPv6 alone): lone, mate
 *
 * The resolvers that programs really have: musl's, glibc's by way of getent and of Node, Go's, c-ares, busybox's. The same questions to each, in
 * containers that have them from this machine's files.
 */
import { join } from 'node:path';
import tap, { type Test, test } from 'tap';
import { buildClient } from './dns-clients/build.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { must, until } from './lab/run.ts';
import { control, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(300_000);

/** More than fits into the 1,232 bytes that clients with EDNS take over UDP, 16 bytes for each. */
const CROWD = 80;
const AT_ONCE = 8;
/** In a container. */
const PROGRAMS = '/clients';
/** A client without EDNS takes 512 bytes: so many addresses are in an answer that is cut off, at least. */
const CUT_OFF = 25;

/** `large`: how it gets what UDP does not carry; 'all': all addresses, 'some': it is content with those in the first answer. `searches`: names as they are, too, where those below search domains are not there. */
interface Client { command: string[]; asksByTcp: boolean; large: 'all' | 'some'; searches: boolean }

const CLIENTS: Record<string, Client> = {
  // Before 1.2.4 it knows no TCP.
  'musl': { command: [`${PROGRAMS}/musl`], asksByTcp: false, large: 'some', searches: true },
  'glibc': { command: ['sh', '/sources/getent.sh'], asksByTcp: true, large: 'all', searches: true },
  'Go': { command: [`${PROGRAMS}/go`], asksByTcp: true, large: 'all', searches: true },
  'Node, c-ares': { command: ['node', '/sources/node.ts', 'ares'], asksByTcp: true, large: 'all', searches: false },
  'Node, libc': { command: ['node', '/sources/node.ts', 'libc'], asksByTcp: true, large: 'all', searches: true },
  'busybox': { command: ['sh', '/sources/busybox.sh'], asksByTcp: false, large: 'some', searches: false },
};

const LARGE_OUTSIDE = Array.from({ length: CROWD }, (_, i) => `198.51.100.${i + 1}`);
const OUTSIDE = { 'www.example': ['198.51.100.7', '2001:db8::7'], 'old.example': ['198.51.100.8'], 'large.example': LARGE_OUTSIDE };

/** Question (as the programs take it) → sorted answers. */
type Expected = Record<string, string[]>;

async function ask(host: Host, container: string, client: Client, questions: readonly string[]): Promise<Expected> {
  const { code, stdout, stderr } = await host.tryDocker('exec', container, ...client.command, ...questions);
  if (code !== 0) throw new Error(`${client.command.join(' ')}: ${code}: ${stderr}`);
  return Object.fromEntries(stdout.trim().split('\n').map((line) => {
    const [, question = line, found = ''] = /^(\S+):(?: (.*))?$/.exec(line) ?? [];
    return [question, found.split(' ').filter((each) => each !== '').sort()];
  }));
}

/** Connections that were begun in its namespace so far. */
async function connections(host: Host, container: string): Promise<number> {
  const [names = '', values = ''] = (await host.docker('exec', container, 'grep', '^Tcp:', '/proc/net/snmp')).split('\n');
  return Number(values.split(' ')[names.split(' ').indexOf('ActiveOpens')]);
}

interface Stage { host: Host; names: Expected; sixNames: Expected; outside: Expected; crowd: string[] }

void test('real resolvers', async (t) => {
  const lab = await createLab({ name: 'dnsclients', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  lab.spawnOn('outside', [process.execPath, join(import.meta.dirname, 'lab/upstream.ts'), ...Object.entries(OUTSIDE).map(([name, ips]) => `${name}=${ips.join(',')}`)]);
  const programs = join(lab.directory, 'clients');
  const missing = new Map<string, string>();
  for (const [client, program] of [['musl', 'musl'], ['Go', 'go']] as const) {
    const built = await buildClient(programs, program);
    if ('missing' in built) missing.set(client, built.missing);
  }
  const stage = await build(host, programs);
  for (const [name, client] of Object.entries(CLIENTS)) {
    const lacks = missing.get(name);
    if (lacks === undefined) await t.test(name, (each) => questions(each, stage, client));
    else t.pass(name, { skip: `there is no ${lacks}` });
  }
});

async function build(host: Host, programs: string): Promise<Stage> {
  await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  await weftJson(host, 'network', 'create', '--ipv6', 'dual');
  await weftJson(host, 'network', 'create', '--no-ipv4', '--ipv6', 'six');
  for (const name of ['dual', 'six']) await until(`Docker has ${name}`, async () => (await host.tryDocker('network', 'inspect', name)).code === 0);
  // The dynamic linker, the libraries and the programs of this machine.
  const node = (await must(['readlink', '-f', process.execPath])).trim();
  const files = [
    ['/lib64', '/lib64'], ['/lib/x86_64-linux-gnu', '/lib/x86_64-linux-gnu'], ['/usr/bin/getent', '/usr/bin/getent'], [node, '/usr/bin/node'],
    [programs, PROGRAMS], [join(import.meta.dirname, 'dns-clients'), '/sources'],
  ].flatMap(([from, to]) => ['-v', `${from}:${to}:ro`]);
  const run = (name: string, ...args: string[]): Promise<string> => host.docker('run', '-d', '--stop-signal', 'KILL', '--name', name, ...files, ...args, IMAGE, 'sleep', '100000');
  const address = (name: string, family: '' | 'GlobalIPv6'): Promise<string> => host.docker('inspect', '-f', `{{range .NetworkSettings.Networks}}{{.${family === '' ? 'IPAddress' : 'GlobalIPv6Address'}}}{{end}}`, name);
  await Promise.all([
    run('udp', '--network', 'dual'), run('tcp', '--network', 'dual', '--dns-opt', 'use-vc'), run('search', '--network', 'dual', '--dns-search', 'example', '--dns-opt', 'ndots:1'), run('lone', '--network', 'six'), run('mate', '--network', 'six'),
    ...['api1', 'api2'].map((name) => run(name, '--network', 'dual', '--network-alias', 'api', '--label', 'weft.service=shop')),
  ]);
  const sandboxes: { address?: string }[] = [];
  for (let i = 0; i < CROWD; i += AT_ONCE) {
    sandboxes.push(...await Promise.all(Array.from({ length: AT_ONCE }, (_, j) => control<{ address?: string }>(host, 'POST', 'sandboxes', { name: `s${i + j}`, network: 'dual', aliases: ['crowd'] }))));
  }
  const [api1, api2, api1v6, api2v6, mate] = await Promise.all([address('api1', ''), address('api2', ''), address('api1', 'GlobalIPv6'), address('api2', 'GlobalIPv6'), address('mate', 'GlobalIPv6')]);
  return {
    host, crowd: sandboxes.map((each) => each.address!.replace(/\/.*/, '')).sort(),
    names: {
      'A/api1': [api1], 'AAAA/api1': [api1v6], 'BOTH/api1': [api1, api1v6].sort(), 'A/API1': [api1], 'BOTH/api1.dual': [api1, api1v6].sort(),
      'A/api': [api1, api2].sort(), 'AAAA/api': [api1v6, api2v6].sort(), 'A/shop': [api1, api2].sort(), 'A/tasks.shop': [api1, api2].sort(),
      [`PTR/${api1}`]: ['api1.dual'], [`PTR/${api1v6}`]: ['api1.dual'],
    },
    sixNames: { 'A/mate': [], 'AAAA/mate': [mate], 'BOTH/mate': [mate], [`PTR/${mate}`]: ['mate.six'] },
    outside: { 'A/www.example': ['198.51.100.7'], 'AAAA/www.example': ['2001:db8::7'], 'BOTH/www.example': ['198.51.100.7', '2001:db8::7'], 'AAAA/old.example': [], 'BOTH/old.example': ['198.51.100.8'], 'A/nobody.example': [], 'A/nobody': [], 'PTR/198.51.100.9': [] },
  };
}

async function questions(t: Test, { host, names, sixNames, outside, crowd }: Stage, client: Client): Promise<void> {
  const expects = async (container: string, expected: Expected, what: string): Promise<void> => void t.same(await ask(host, container, client, Object.keys(expected)), expected, what);
  const before = await connections(host, 'udp');
  await expects('udp', { ...names, ...outside }, 'containers, services and the outside over UDP');
  t.equal(await connections(host, 'udp'), before, 'and over UDP alone');
  if (client.searches) await expects('search', { 'A/www': ['198.51.100.7'], 'AAAA/www': ['2001:db8::7'], 'A/nobody': [], 'A/www.example': ['198.51.100.7'], 'A/api1': names['A/api1']!, 'BOTH/api1': names['BOTH/api1']! }, 'below a search domain, and beside it');
  await expects('lone', { ...sixNames, ...outside }, 'where there is no IPv4');
  const large: Expected = { 'A/crowd': crowd, 'A/large.example': LARGE_OUTSIDE.toSorted() };
  if (client.large === 'all') {
    await expects('udp', large, 'what UDP does not carry');
    t.ok(await connections(host, 'udp') > before, 'they came over TCP');
  } else {
    for (const [question, found] of Object.entries(await ask(host, 'udp', client, Object.keys(large)))) {
      t.ok(found.length >= CUT_OFF, `${question}: ${found.length} addresses`);
      t.same(found.filter((each) => !large[question]!.includes(each)), [], 'all of them right');
    }
  }
  if (!client.asksByTcp) return;
  const opened = await connections(host, 'tcp');
  await expects('tcp', { ...names, ...outside, ...large }, 'all of them over TCP');
  t.ok(await connections(host, 'tcp') > opened + Object.keys(names).length, 'over TCP indeed');
}
