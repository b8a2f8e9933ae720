/**
 *              internet (a bridge: 10.98.0.0/24)
 *    |        |        |        |          |
 *   o1       o2       o3      nat1       nat2     .1 .2 .3, .11, .12
 *                              |          |
 *                              h1         h2      192.168.1.2, 192.168.2.2; in the VPN 10.98.9.1, 10.98.9.2
 *
 * Hosts behind routers that let in only answers find each other in the hash table of three hosts outside.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import tap, { test, type Test } from 'tap';
import { createLab, type Lab } from './lab/lab.ts';
import { must, run, wait } from './lab/run.ts';

tap.setTimeout(180_000);

const ROOT = resolve(import.meta.dirname, '..');
const PORT = 7951;
const onInternet = (number: number): string => `10.98.0.${number}`;
const inVpn = (number: number): string => `10.98.9.${number}`;
const OUTSIDE = [1, 2, 3].map((number) => ({ host: onInternet(number), port: PORT }));

const ip = (namespace: string, ...command: string[]): Promise<string> => must(['ip', '-n', namespace, ...command]);
const within = (namespace: string, ...command: string[]): string[] => ['ip', 'netns', 'exec', namespace, ...command];

async function addNamespace(lab: Lab, label: string): Promise<string> {
  const namespace = lab.namespace(label);
  await must(['ip', 'netns', 'add', namespace]);
  await ip(namespace, 'link', 'set', 'lo', 'up');
  return namespace;
}

async function connectToInternet(lab: Lab, namespace: string, number: number): Promise<void> {
  const internet = lab.namespace('router');
  await must(['ip', 'link', 'add', `net${number}`, 'netns', internet, 'type', 'veth', 'peer', 'name', 'wan', 'netns', namespace]);
  await ip(internet, 'link', 'set', `net${number}`, 'master', 'internet', 'up');
  await ip(namespace, 'addr', 'add', `${onInternet(number)}/24`, 'dev', 'wan');
  await ip(namespace, 'link', 'set', 'wan', 'up');
}

/** A host behind a router of its own that masquerades, and drops what it did not ask for. Its VPN leads nowhere. */
async function addHidden(lab: Lab, number: number): Promise<{ host: string; nat: string }> {
  const [nat, host] = [await addNamespace(lab, `nat${number}`), await addNamespace(lab, `h${number}`)];
  await connectToInternet(lab, nat, 10 + number);
  await must(['ip', 'link', 'add', 'lan', 'netns', nat, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host]);
  await ip(nat, 'addr', 'add', `192.168.${number}.1/24`, 'dev', 'lan');
  await ip(nat, 'link', 'set', 'lan', 'up');
  await ip(host, 'addr', 'add', `192.168.${number}.2/24`, 'dev', 'eth0');
  await ip(host, 'link', 'set', 'eth0', 'up');
  await ip(host, 'route', 'add', 'default', 'via', `192.168.${number}.1`);
  await ip(host, 'link', 'add', 'vpn', 'up', 'type', 'bridge');
  await ip(host, 'addr', 'add', `${inVpn(number)}/32`, 'dev', 'vpn');
  await must(within(nat, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'));
  await masquerade(nat);
  return { host, nat };
}

/** `how`: by default ports stay what they were; with `fully-random` every destination sees another. */
function masquerade(nat: string, how = ''): Promise<string> {
  return must(within(nat, 'nft', '-f', '-'), {
    input: `
      flush ruleset
      table ip nat {
        chain input { type filter hook input priority 0; iifname "wan" ct state != { established, related } drop; }
        chain forward { type filter hook forward priority 0; iifname "wan" ct state != { established, related } drop; }
        chain postrouting { type nat hook postrouting priority 100; oifname "wan" masquerade ${how}; }
      }`,
  });
}

interface Finder { find(): Promise<string[]>; close(): Promise<void> }

/** A node of the table in that namespace, which says whom it finds. */
async function openTable(t: Test, namespace: string, self: string, bootstrap: readonly object[]): Promise<Finder> {
  const child = spawn('ip', within(namespace, process.execPath, '--input-type=module', '--eval', `
    import { createInterface } from 'node:readline';
    import { systemClock as clock } from '${ROOT}/base/clock.ts';
    import { systemRandom as random } from '${ROOT}/base/random.ts';
    import { openDht } from '${ROOT}/cluster/dht.ts';
    import { Keyring } from '${ROOT}/gossip/keyring.ts';
    const table = await openDht({ self: { host: '${self}', port: 7946 }, port: ${PORT}, bootstrap: ${JSON.stringify(bootstrap)}, keyring: new Keyring(Buffer.alloc(32, 7)), clock, random });
    console.log('open');
    for await (const _ of createInterface({ input: process.stdin })) console.log(JSON.stringify((await table.addresses()).map(({ host }) => host).sort()));
    await table.close();
  `).slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the table of ${self} is gone`);
    return value;
  };
  const ended = new Promise<void>((done) => void child.on('exit', () => done()));
  const close = async (): Promise<void> => {
    child.stdin.end();
    await ended;
  };
  t.teardown(close);
  await line();
  return {
    find: async () => {
      child.stdin.write('\n');
      return JSON.parse(await line()) as string[];
    },
    close,
  };
}

/** Whether the other's kernel says that nobody listens there. */
async function reaches(from: string, address: string): Promise<boolean> {
  const { stderr } = await run(within(from, 'timeout', '1', 'bash', '-c', `exec 3<>/dev/tcp/${address}/9`));
  return stderr.includes('refused');
}

test('hosts behind two NATs find each other', { skip: existsSync(resolve(ROOT, 'node_modules/hyperdht')) ? false : 'hyperdht is not installed' }, async (t) => {
  const lab = await createLab({ name: 'punch', hosts: 0 });
  t.teardown(() => lab.destroy());
  await ip(lab.namespace('router'), 'link', 'add', 'internet', 'up', 'type', 'bridge');
  const outside: Finder[] = [];
  for (const number of [1, 2, 3]) await connectToInternet(lab, await addNamespace(lab, `o${number}`), number);
  const [one, two] = [await addHidden(lab, 1), await addHidden(lab, 2)];

  t.ok(await reaches(one.host, onInternet(1)), 'a hidden host reaches those outside');
  t.notOk(await reaches(lab.namespace('o1'), '192.168.1.2'), 'and they do not reach it');
  for (const address of ['192.168.2.2', onInternet(12), inVpn(2)]) t.notOk(await reaches(one.host, address), `nor does one hidden host reach the other at ${address}`);

  outside.push(...await Promise.all([1, 2, 3].map((number) => openTable(t, lab.namespace(`o${number}`), onInternet(number), OUTSIDE))));
  const first = await openTable(t, one.host, inVpn(1), OUTSIDE.slice(0, 1));
  const second = await openTable(t, two.host, inVpn(2), OUTSIDE.slice(1, 2));
  const all = (number: number): string[] => [...OUTSIDE.map(({ host }) => host), inVpn(number)];
  /** What it finds now or soon. Those outside ask as well, as weftd does at intervals, and so tell those that came after them. */
  const finds = async (finder: Finder, expected: readonly string[], what: string): Promise<void> => {
    let found: string[] = [];
    for (const end = Date.now() + 25_000; Date.now() < end && found.join() !== expected.join(); await wait(500)) {
      for (const other of outside) if (other !== finder) await other.find();
      found = await finder.find();
    }
    t.same(found, expected, what);
  };
  await finds(first, all(2), 'by one host outside it finds all, and the other hidden one by what it advertises');
  await finds(second, all(1), 'and the other way round');
  const seenOutside = [...OUTSIDE.slice(0, 2).map(({ host }) => host), inVpn(1), inVpn(2)];
  await finds(outside[2]!, seenOutside, 'one outside finds both');

  await first.close();
  await second.close();
  for (const { nat } of [one, two]) await masquerade(nat, 'fully-random');
  const third = await openTable(t, one.host, inVpn(1), OUTSIDE);
  await openTable(t, two.host, inVpn(2), OUTSIDE);
  await finds(outside[2]!, seenOutside, 'also where both NATs take a new port for each destination');
  t.same(await third.find(), OUTSIDE.map(({ host }) => host), 'but those two do not find each other: there is no hole to aim at');
});
