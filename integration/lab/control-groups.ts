/** What a host's dockerd leaves in the machine's control groups: its containers' groups, under the host's own. */
import { existsSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { wait } from './run.ts';

const ROOT = '/sys/fs/cgroup';

/** Removes the groups of that name in every hierarchy, with all below them. Their processes must have ended. */
export async function removeControlGroups(name: string): Promise<void> {
  // With version 1 there is one hierarchy per controller, with version 2 the root itself is the only one.
  for (const hierarchy of [ROOT, ...readdirSync(ROOT).map((entry) => join(ROOT, entry))]) await removeTree(join(hierarchy, name));
}

/** A group can be removed when it is empty, from the leaves up; the kernel counts a process that has ended a little longer. */
async function removeTree(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) if (entry.isDirectory()) await removeTree(join(path, entry.name));
  for (let attempt = 0; ; attempt++) {
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await wait(20);
    }
  }
}
