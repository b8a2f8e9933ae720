// ipvlan, which this machine's kernel may lack, on Debian's own in a virtual machine: between namespaces, and with Docker, a boot each. They take minutes.
import tap, { test, type Test } from 'tap';
import { prepareKernel } from './vm/kernel.ts';
import { FOR_HOSTS, runInside, type Outcome } from './vm/machine.ts';
import { told } from './vm/told.ts';

/** Alone on two cores the second one takes 130 s; a machine with other work has been seen to take four times as long. */
const TIMEOUT_MS = 580_000;
const NODE = 'node_modules/.bin/node';
const DRIVER = 'drivers/ipvlan/ipvlan.test.ts';
const WIRELESS = 'drivers/macvlan/wireless.test.ts';
const DOCKER = 'integration/ipvlan.test.ts';

tap.setTimeout(2 * TIMEOUT_MS + 60_000);

async function inside(t: Test, commands: readonly string[], look: (outcomes: Outcome[]) => void): Promise<void> {
  const kernel = await prepareKernel();
  if (typeof kernel === 'string') t.pass('skipped', { skip: kernel });
  else look(await runInside(kernel, commands, TIMEOUT_MS));
}

test('the driver on a kernel that has ipvlan', (t) => inside(t, [`${NODE} ${DRIVER}`, `/run/modprobe mac80211_hwsim && ${NODE} ${WIRELESS}`], ([driver, wireless]) => {
  told(t, DRIVER, ['l2: machines of the LAN', 'l3: by the host\'s routes', 'l3s: by the host\'s routes', 'what is broken is mended', '802.1Q: a sub-interface comes'], driver!);
  told(t, WIRELESS, ['ipvlan is named where macvlan cannot work'], wireless!);
}));

test('Docker on a kernel that has ipvlan', (t) => inside(t, [FOR_HOSTS, `${NODE} ${DOCKER}`], ([prepared, docker]) => {
  t.equal(prepared!.code, 0, prepared!.output);
  told(t, DOCKER, ['l2, with the host\'s own way in', 'l3', 'l3s'], docker!);
}));
