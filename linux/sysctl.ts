/** Sysctls of a namespace: /proc/sys/net shows that of the thread that opens it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { KernelError, type Netns } from './types.ts';

/** Interface names may hold dots: a name is given as parts, 'net/ipv4/conf/eth0.100/rp_filter'. */
const pathOf = (name: string): string => `/proc/sys/${name}`;

/** undefined where the kernel has no such setting (IPv6 switched off, say). */
export function readSysctl(netns: Netns, name: string): string | undefined {
  try {
    return netns.run(() => readFileSync(pathOf(name), 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new KernelError(`read ${name}`, (error as NodeJS.ErrnoException).code ?? 'EIO');
  }
}

/** Writes only what differs. Returns the value before; undefined where there is no such setting, and then nothing is done. */
export function writeSysctl(netns: Netns, name: string, value: string): string | undefined {
  const before = readSysctl(netns, name);
  if (before === undefined || before === value) return before;
  try {
    netns.run(() => writeFileSync(pathOf(name), value));
  } catch (error) {
    throw new KernelError(`set ${name} to ${value}`, (error as NodeJS.ErrnoException).code ?? 'EIO');
  }
  return before;
}
