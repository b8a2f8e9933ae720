/**
 * The distribution's openssl, as a child process. It is needed when a cluster is founded, when a node joins and when a
 * certificate is renewed, a few times a year: so no library that writes certificates lives in the daemon.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorText, weftError } from '../../base/errors.ts';

const TIMEOUT_MS = 20_000;

export interface Workplace {
  /** Writes a file (0600) and returns its path. */
  file(name: string, text: string): Promise<string>;
  path(name: string): string;
  read(name: string): Promise<string>;
  openssl(...args: string[]): Promise<string>;
}

/** Gives `work` a directory of its own (0700), which goes afterwards with the keys in it. Throws WEFT-OPENSSL. */
export async function withOpenssl<T>(work: (place: Workplace) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'weft-identity-'));
  const path = (name: string): string => join(directory, name);
  try {
    return await work({
      path,
      file: async (name, text) => {
        await writeFile(path(name), text, { mode: 0o600 });
        return path(name);
      },
      read: (name) => readFile(path(name), 'utf8'),
      openssl: run,
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function run(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    // Its own configuration file could change what is made.
    const child = spawn('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'], OPENSSL_CONF: '/dev/null' } });
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(weftError('WEFT-OPENSSL', { detail: errorText(error) }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(out);
      else reject(weftError('WEFT-OPENSSL', { detail: `${args[0]}: ${err.trim().split('\n').at(-1) ?? `exit ${code}`}` }));
    });
  });
}
