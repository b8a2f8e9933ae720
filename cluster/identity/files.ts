/** A node's identity on its disk: 0600, in a directory of 0700. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** PEM. */
export interface Identity { authority: string; certificate: string; key: string }

export interface IdentityFiles {
  /** The authority's certificate. */
  authority: string;
  /** Certificate and key of the node, in one file: so both change at the same instant. Programs take it for either. */
  node: string;
}

export const identityDirectory = (dataDirectory: string): string => join(dataDirectory, 'identity');

export const identityFiles = (directory: string): IdentityFiles => ({ authority: join(directory, 'ca.pem'), node: join(directory, 'node.pem') });

/** undefined where there is none. */
export function readIdentity(directory: string): Identity | undefined {
  const files = identityFiles(directory);
  try {
    const node = readFileSync(files.node, 'utf8');
    const [certificate, key] = ['CERTIFICATE', 'PRIVATE KEY'].map((label) => new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----`).exec(node)?.[0]);
    return certificate === undefined || key === undefined ? undefined : { authority: readFileSync(files.authority, 'utf8').trim(), certificate, key };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

export function writeIdentity(directory: string, { authority, certificate, key }: Identity): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const files = identityFiles(directory);
  replace(files.authority, `${authority}\n`);
  replace(files.node, `${certificate}\n${key.trim()}\n`);
}

/** A crash leaves the old file or the new one. */
function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
