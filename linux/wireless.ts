/** Wireless links, as sysfs tells of them: those of the namespace that this process was started in. */
import { existsSync } from 'node:fs';
import type { Netns } from './types.ts';

/** Managed by cfg80211. Of other namespaces nothing is known: false. */
export const isWireless = (netns: Netns, link: string): boolean => netns.path === undefined && existsSync(`/sys/class/net/${link}/phy80211`);
