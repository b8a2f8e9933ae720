// ipvlan, which this machine's kernel may lack, on Debian's own in a virtual machine: between namespaces, and with Docker. A boot of its own: it takes minutes.
import tap, { test } from 'tap';
import { prepareKernel } from './vm/kernel.ts';
import { runInside } from './vm/machine.ts';
import { told } from './vm/told.ts';

const TIMEOUT_MS = 540_000;
const NODE = 'node_modules/.bin/node';
const DRIVER = 'drivers/ipvlan/ipvlan.test.ts';
const WIRELESS = 'drivers/macvlan/wireless.test.ts';
const DOCKER = 'integration/ipvlan.test.ts';

tap.setTimeout(TIMEOUT_MS + 60_000);

/** What Docker needs of the machine: control groups, and folders that are no overlay for its own overlays. */
const FOR_DOCKER = 'mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /tmp && mkdir -p .lab && mount -t tmpfs none .lab';

test('ipvlan on a kernel that has it', async (t) => {
  const kernel = await prepareKernel();
  if (typeof kernel === 'string') return void t.pass('skipped', { skip: kernel });
  const [driver, wireless, prepared, docker] = await runInside(kernel, [`${NODE} ${DRIVER}`, `/run/modprobe mac80211_hwsim && ${NODE} ${WIRELESS}`, FOR_DOCKER, `${NODE} ${DOCKER}`], TIMEOUT_MS);
  told(t, DRIVER, ['l2: machines of the LAN', 'l3: by the host\'s routes', 'l3s: by the host\'s routes', 'what is broken is mended', '802.1Q: a sub-interface comes'], driver!);
  told(t, WIRELESS, ['ipvlan is named where macvlan cannot work'], wireless!);
  t.equal(prepared!.code, 0, prepared!.output);
  told(t, DOCKER, ['l2, with the host\'s own way in', 'l3', 'l3s'], docker!);
});
