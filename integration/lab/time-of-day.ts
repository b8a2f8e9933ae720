/**
 * The time of day of single processes of a host, set while they run. Hosts share the machine's clock, so libfaketime is in
 * their way to it; the clock that only counts is left alone, as when a real one is set. Programs that do without libc
 * (etcd) see the machine's.
 */
import type { Host } from './host.ts';

const LIBRARY = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1';
const FILE = '/run/time-of-day';

/** What a process needs in its environment; after the first setTimeOfDay. */
export const TIME_OF_DAY: Record<string, string> = {
  LD_PRELOAD: LIBRARY, FAKETIME_TIMESTAMP_FILE: FILE, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1',
};

/** Seconds ahead of the machine's, or behind it. */
export async function setTimeOfDay(host: Host, seconds: number): Promise<void> {
  await host.must(['sh', '-c', `echo '${seconds < 0 ? '' : '+'}${seconds}' > ${FILE}.new && mv ${FILE}.new ${FILE}`]);
}
