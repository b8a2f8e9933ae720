/** Network namespaces for tests: made on demand, with a name of their own, and gone when the test is over, however it ended. */
import { execFileSync } from 'node:child_process';
import type { Test } from 'tap';
import { createNetns, deleteNetns } from './netns.ts';
import { openRtnl } from './rtnl.ts';
import type { Netns, Rtnl } from './types.ts';

export interface Space {
  netns: Netns;
  rtnl: Rtnl;
  path: string;
  /** Runs a program inside and returns what it printed. */
  run(command: string, ...args: string[]): string;
}

let count = 0;

/** A fresh namespace, its loopback up. */
export function space(t: Test): Space {
  const name = `weft-t-${process.pid}-${count++}`;
  const path = `/run/netns/${name}`;
  const netns = createNetns(path);
  t.teardown(() => {
    rtnl.close();
    netns.close();
    deleteNetns(path);
  });
  const rtnl = openRtnl(netns);
  rtnl.setLink(rtnl.link('lo')!.index, { up: true });
  return { netns, rtnl, path, run: (...command) => execFileSync('ip', ['netns', 'exec', name, ...command], { encoding: 'utf8' }) };
}

/** Runs a TypeScript module (`$linux` stands for this folder) in a process of its own, which may die; returns what it printed. */
export function script(source: string): string {
  const text = source.replaceAll('$linux', import.meta.dirname);
  return execFileSync(process.execPath, ['--input-type=module-typescript', '--no-warnings', '-e', text], { encoding: 'utf8', timeout: 20_000 });
}
