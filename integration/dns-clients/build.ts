/** Programs that ask for names, from the sources beside this file, which need nothing of the system that they run on. */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LAB_DIRECTORY } from '../lab/lab.ts';
import { must } from '../lab/run.ts';

const GO_ENVIRONMENT = { CGO_ENABLED: '0', GO111MODULE: 'off', GOFLAGS: '', GOCACHE: join(LAB_DIRECTORY, 'go-cache') };

const PROGRAMS = {
  musl: { compiler: '/usr/bin/musl-gcc', command: ['musl-gcc', '-static', '-O1', '-Wall', '-Werror'], source: 'libc.c', env: {} },
  go: { compiler: '/usr/bin/go', command: ['go', 'build'], source: 'resolve.go', env: GO_ENVIRONMENT },
  first: { compiler: '/usr/bin/go', command: ['go', 'build'], source: 'first.go', env: GO_ENVIRONMENT },
} as const;

/** Returns the path of a program, or what this machine lacks. */
export async function buildClient(directory: string, name: keyof typeof PROGRAMS): Promise<{ path: string } | { missing: string }> {
  const { compiler, command, source, env } = PROGRAMS[name];
  if (!existsSync(compiler)) return { missing: compiler };
  await mkdir(directory, { recursive: true });
  const path = join(directory, name);
  await must([...command, '-o', path, join(import.meta.dirname, source)], { env, timeoutMs: 300_000 });
  return { path };
}
