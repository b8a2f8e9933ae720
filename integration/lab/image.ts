/** An image without a registry: Debian's static busybox with all its applets, by `docker import`. */
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { must } from './run.ts';

export const IMAGE = 'weft-lab';

/** Makes the tar once, also when several hosts start at the same time; returns its path. */
export async function imageTar(directory: string): Promise<string> {
  const path = join(directory, 'image.tar');
  if (existsSync(path)) return path;
  await mkdir(dirname(path), { recursive: true });
  const root = await mkdtemp(join(directory, 'image-'));
  try {
    for (const each of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'run', 'root', 'www']) await mkdir(join(root, each));
    await cp('/bin/busybox', join(root, 'bin/busybox'));
    for (const applet of (await must(['/bin/busybox', '--list'])).split('\n')) {
      if (applet !== '' && applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
    }
    await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    await writeFile(join(root, 'etc/group'), 'root:x:0:\n');
    await chmod(join(root, 'tmp'), 0o1777);
    await must(['tar', '-C', root, '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '-cf', `${root}.tar`, '.']);
    await rename(`${root}.tar`, path);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  return path;
}
