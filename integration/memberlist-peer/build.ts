/** Builds the Go peer from the sources beside this file and Debian's packages, once for each state of the sources. */
import { createHash } from 'node:crypto';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { LAB_DIRECTORY } from '../lab/lab.ts';
import { must } from '../lab/run.ts';

/** Where Debian's golang-*-dev packages put their sources. */
const LIBRARIES = '/usr/share/gocode';
const HERE = import.meta.dirname;

/** What is missing on this machine, or undefined. */
export const goMissing = (): string | undefined =>
  ['/usr/bin/go', `${LIBRARIES}/src/github.com/hashicorp/memberlist`].find((path) => !existsSync(path));

let building: Promise<string> | undefined;

/** Returns the program's path. */
export const buildMemberlistPeer = (): Promise<string> => (building ??= build());

async function build(): Promise<string> {
  const sources = globSync('*.go', { cwd: HERE }).sort();
  const hash = createHash('sha256');
  for (const source of sources) hash.update(readFileSync(join(HERE, source)));
  const program = join(LAB_DIRECTORY, `memberlist-peer-${hash.digest('hex').slice(0, 12)}`);
  if (existsSync(program)) return program;
  await mkdir(LAB_DIRECTORY, { recursive: true });
  const fresh = `${program}.${process.pid}`;
  await must(['go', 'build', '-o', fresh, ...sources.map((source) => join(HERE, source))], {
    env: { GO111MODULE: 'off', GOPATH: LIBRARIES, GOFLAGS: '', GOCACHE: join(LAB_DIRECTORY, 'go-cache') }, timeoutMs: 300_000,
  });
  await rename(fresh, program);
  return program;
}
