/** Sysctls of a namespace: /proc/sys/net shows that of the thread that opens it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { KernelError, type Netns } from './types.ts';

/**
 * As in sysctl.d(5): 'net.ipv4.ip_forward', or with slashes where a part holds dots ('net/ipv4/conf/eth0.100/rp_filter').
 * Whatever comes first separates, and the other one stands for itself.
 */
const pathOf = (name: string): string =>
  `/proc/sys/${/^[^./]*\./.test(name) ? name.replace(/[./]/g, (separator) => (separator === '.' ? '/' : '.')) : name}`;

/** undefined where the kernel has no such setting (IPv6 switched off, say). */
export function readSysctl(netns: Netns, name: string): string | undefined {
  try {
    return netns.run(() => readFileSync(pathOf(name), 'utf8')).trim();
  } catch (error) {
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new KernelError(`read ${name}`, code);
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
