/**
 * Debian's own kernel beside this machine's: downloaded by apt, unpacked and not installed, with a first file system that holds what is needed to mount
 * this machine's. Made once, and kept for the next run.
 */
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { must, run } from '../lab/run.ts';

const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/weft-kernel');
/** The package that stands for the newest one. */
const NEWEST = 'linux-image-amd64';
/** In the order in which they are loaded: each needs those before it. */
const MODULES = [
  'drivers/virtio/virtio_ring', 'drivers/virtio/virtio', 'drivers/virtio/virtio_pci_modern_dev', 'drivers/virtio/virtio_pci_legacy_dev', 'drivers/virtio/virtio_pci',
  'fs/netfs/netfs', 'fs/fscache/fscache', 'net/9p/9pnet', 'net/9p/9pnet_virtio', 'fs/9p/9p', 'fs/overlayfs/overlay',
];

/** Drivers of machines: busybox's modprobe, which the kernel calls dozens of times, reads the names of all that there are, for seconds where QEMU translates. */
const UNUSED = 'rm -r sound drivers/net/ethernet drivers/net/usb; find drivers -name "*.ko" -not -path "drivers/net/*" -not -path "drivers/virtio/*" -delete';

/** Where this machine's files are in the guest until it has changed over to them, with what it writes kept in memory. */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /lower /memory /root
/bin/busybox mount -t proc proc /proc
for module in ${MODULES.map((path) => path.split('/').at(-1)).join(' ')}; do /bin/busybox insmod /$module.ko || echo "no $module"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /lower
/bin/busybox mount -t tmpfs memory /memory
/bin/busybox mkdir /memory/upper /memory/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root
exec /bin/busybox switch_root /root /bin/sh -c "$(/bin/busybox sed -n 's/.*weft.script=\\([^ ]*\\).*/\\1/p' /proc/cmdline)"
`;

export interface Kernel {
  release: string;
  image: string;
  initialRamdisk: string;
  /** To be found as /lib/modules in the guest. */
  modules: string;
}

/** A sentence where this machine has no way to it: no QEMU, no package. */
export async function prepareKernel(): Promise<Kernel | string> {
  if (process.arch !== 'x64') return `the kernel for virtual machines is taken for x64, not for ${process.arch}`;
  if ((await run(['which', 'qemu-system-x86_64'])).code !== 0) return 'qemu-system-x86_64 is not installed: apt-get install qemu-system-x86';
  const [, name] = /Depends: (linux-image-\S+)/.exec((await run(['apt-cache', 'depends', NEWEST])).stdout) ?? [];
  if (name === undefined) return `apt knows no package ${NEWEST}`;
  const release = name.replace('linux-image-', '');
  const folder = join(CACHE, release);
  if (!existsSync(folder)) {
    const failure = await make(name, release, `${folder}.new`).catch((error: unknown) => String(error));
    if (failure !== undefined) return `the kernel ${release} could not be had: ${failure}`;
    await rename(`${folder}.new`, folder);
  }
  return { release, image: join(folder, 'boot', `vmlinuz-${release}`), initialRamdisk: join(folder, 'initrd'), modules: join(folder, 'lib/modules') };
}

async function make(name: string, release: string, folder: string): Promise<undefined> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await must(['sh', '-c', 'cd "$1" && apt-get -qq download "$2" && dpkg -x "$2"_*.deb . && rm ./*.deb', 'sh', folder, name]);
  await must(['sh', '-c', `cd "$1" && ${UNUSED}`, 'sh', join(folder, 'lib/modules', release, 'kernel')]);
  await must(['busybox', 'depmod', '-b', folder, release]);
  const first = join(folder, 'first');
  await mkdir(join(first, 'bin'), { recursive: true });
  await copyFile('/bin/busybox', join(first, 'bin/busybox'));
  for (const path of MODULES) await copyFile(join(folder, 'lib/modules', release, 'kernel', `${path}.ko`), join(first, `${path.split('/').at(-1)}.ko`));
  await writeFile(join(first, 'init'), INIT);
  await chmod(join(first, 'init'), 0o755);
  await must(['sh', '-c', 'cd "$1" && find . | busybox cpio -o -H newc | gzip > ../initrd', 'sh', first]);
}
