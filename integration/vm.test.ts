// What this machine's kernel may lack, on Debian's own in a virtual machine: one boot, and in it the tests themselves, with the real thing.
import { test } from 'tap';
import { prepareKernel } from './vm/kernel.ts';
import { ASKED_MODULES, FOR_HOSTS, runInside } from './vm/machine.ts';
import { told } from './vm/told.ts';

/** Everything in it runs under translation: alone on two cores it takes 300 to 400 s. */
const TIMEOUT_MS = 800_000;
const NODE = 'node_modules/.bin/node';

/** Files, each with the names of tests that have to have run in it. */
const TESTS: readonly (readonly [file: string, ...names: string[]])[] = [
  ['linux/rtnl-stacked.test.ts', 'a VLAN of a link', 'ipvlans of a link'],
  // The oldest kernel that they are tried on.
  ['linux/conntrack.test.ts', 'flows are forgotten by what they match'],
  ['drivers/source-guard.test.ts', 'frames'],
  ['drivers/overlay/fast-path.test.ts', 'packets go past the tunnels'],
  ['linux/wireguard.test.ts', 'a link that is born elsewhere sends from here'],
  [
    'drivers/overlay/encrypted-network.test.ts', 'crosses sealed, and in no other way', 'a published port', 'cleartext is not let in', 'without the WireGuard link nothing leaves', 'what is changed by hand is mended',
    'new keys while a stream runs', 'behind address translation, with the next key as well', 'whether the port is open is tried', 'a key that is nobody\'s, and that of a node that was removed, are refused', 'what is left without encrypted networks',
  ],
  ['drivers/overlay/encryption.test.ts', 'who does not answer is named'],
  // weftd itself, on two hosts.
  ['integration/encrypted.test.ts', 'what crosses between them is sealed, with the keys on their disks', 'new keys for all while packets cross'],
  ['drivers/macvlan/macvlan.test.ts', 'a sub-interface comes with its first network and goes with its last'],
];

/** Of files that start many programs, which takes seconds each here. */
const PART: Readonly<Record<string, string>> = { 'drivers/overlay/fast-path.test.ts': 'TAP_GREP="$(printf \'fast path\\npackets go past\')" ' };

test('on a kernel that has what this one lacks', async (t) => {
  const kernel = await prepareKernel();
  if (typeof kernel === 'string') return void t.pass('skipped', { skip: kernel });
  const commands = ['uname -r', FOR_HOSTS, ...TESTS.map(([file]) => `${PART[file] ?? ''}${NODE} ${file}`), `cat ${ASKED_MODULES}`];
  const [release, prepared, ...outcomes] = await runInside(kernel, commands, TIMEOUT_MS);
  t.equal(release?.output.trim(), kernel.release);
  t.equal(prepared!.code, 0, prepared!.output);
  for (const [i, [file, ...names]] of TESTS.entries()) told(t, file, names, outcomes[i]!);
  const asked = outcomes.at(-1)!.output.split('\n');
  t.ok(asked.some((line) => line.includes('nft-expr-')), 'the kernel asks for what it lacks');
  t.same(asked.filter((line) => /netdev-|\bw[beghluv]-/.test(line)), [], 'but never for a module named like a link of ours: looking for one that is not there would wait for modprobe');
});
