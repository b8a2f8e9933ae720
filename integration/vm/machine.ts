/** A virtual machine whose disk is this machine's, read only: what a script of its prints comes back. QEMU translates (TCG): times mean nothing. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { run } from '../lab/run.ts';
import type { Kernel } from './kernel.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const MEMORY_MB = '1536';

/** A command that hosts of the lab, and Docker on them, need first: control groups, and folders that are no overlay for their own overlays. */
export const FOR_HOSTS = 'mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /tmp && mkdir -p .lab && mount -t tmpfs none .lab';

/** The same program always at the same addresses: QEMU finds again what it has translated, where each process would else be translated anew, which took a fifth of all processor time (begun by the dozen, small ones: two thirds). */
const SAME_ADDRESSES = 'norandmaps';

/** What the kernel has asked modprobe for, by line; in the guest. */
export const ASKED_MODULES = '/run/modules-asked';
/** Where Node finds what it has compiled before, by unit tests on this machine; nothing is written there by the guest. */
const COMPILED = process.env['NODE_COMPILE_CACHE'] ?? '';

export interface Outcome { code: number; output: string }

/** Runs one command after the other, in the folder of the project; returns what each printed. Rejects when the machine does not get through all of them in time. */
export async function runInside(kernel: Kernel, commands: readonly string[], timeoutMs: number): Promise<Outcome[]> {
  const folder = await mkdtemp(join(tmpdir(), 'weft-vm-'));
  try {
    const script = join(folder, 'script');
    await writeFile(script, guestScript(kernel, commands), { mode: 0o755 });
    const { stdout } = await run([
      // It computes without a pause. What runs beside it mostly waits, and is well served by the other processor.
      'nice', '-n', '-5', 'qemu-system-x86_64', '-M', 'q35', '-accel', 'tcg,thread=single', '-cpu', 'max', '-m', MEMORY_MB, '-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot',
      '-kernel', kernel.image, '-initrd', kernel.initialRamdisk, '-append', `console=ttyS0 ${SAME_ADDRESSES} quiet panic=-1 mitigations=off weft.script=${script}`,
      '-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap',
    ], { timeoutMs });
    const text = stdout.replaceAll('\r', '');
    return commands.map((command, i) => {
      const [, output, code] = new RegExp(`^=== ${i} begins\\n([^]*?)^=== ${i} ends: (\\d+)$`, 'm').exec(text) ?? [];
      if (output === undefined) throw new Error(`the machine did not get through \`${command}\`:\n${text.slice(-4000)}`);
      return { code: Number(code), output };
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Translating in a thread for each processor, Node ended by SIGSEGV or SIGTRAP in its first second, once in eight starts. In one thread, with one
 * processor, it was not seen in a hundred: should it be, what a signal ended is begun once more, and says so.
 */
const tried = (command: string): string => `${command}; code=$?; if [ $code -gt 128 ]; then echo "=== ended by signal $((code - 128)), begun again"; ${command}; code=$?; fi`;

const guestScript = ({ modules }: Kernel, commands: readonly string[]): string => `#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/shm /lib/modules
for folder in /run /dev/shm; do mount -t tmpfs none $folder; done
mount --bind ${modules} /lib/modules
printf '#!/bin/sh\\necho "$@" >> ${ASKED_MODULES}\\nexec /bin/busybox modprobe "$@"\\n' > /run/modprobe; chmod +x /run/modprobe; echo /run/modprobe > /proc/sys/kernel/modprobe
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin NO_COLOR=1 TAP_TIMEOUT=600 NODE_COMPILE_CACHE=${COMPILED}
ip link set lo up; /run/modprobe br_netfilter
cd ${ROOT}
${commands.map((command, i) => `echo; echo "=== ${i} begins"; ${tried(command)}; echo; echo "=== ${i} ends: $code"`).join('\n')}
busybox poweroff -f
`;
