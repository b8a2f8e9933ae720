/** Sysctls of the host's that networks need. What was there before is written down, and put back when Weft has no more use for it. */
import { readSysctl, writeSysctl } from '../linux/sysctl.ts';
import type { Netns } from '../linux/types.ts';

/** Remembers what a sysctl was before it was changed for the first time; returns what is remembered. */
export type Journal = (name: string, before: string) => string;

/** Returns what was there; undefined where it was so already, or where the kernel has no such setting. */
export function setHostSysctl(host: Netns, name: string, value: string, journal: Journal): string | undefined {
  const before = readSysctl(host, name);
  if (before === undefined || before === value) return undefined;
  // Before the change: a crash in between must not lose it.
  journal(name, before);
  writeSysctl(host, name, value);
  return before;
}

/** Of a sysctl that setHostSysctl may have changed. */
export function giveBackHostSysctl(host: Netns, name: string, journal: Journal): void {
  const now = readSysctl(host, name);
  if (now !== undefined) writeSysctl(host, name, journal(name, now));
}
