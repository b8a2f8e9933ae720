/** A node's identity on its disk: 0600, in a directory of 0700. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** PEM. */
export interface Identity {
  authority: string;
  certificate: string;
  key: string;
  /** The list of certificates that are refused (RFC 5280 §5). */
  revoked: string;
}

export interface IdentityFiles {
  /** The authority's certificate. */
  authority: string;
  /** Certificate and key of the node, in one file: so both change at the same instant. Programs take it for either. */
  node: string;
  /** What etcd is given as its list of revoked certificates, which it reads at each handshake. */
  revoked: string;
}

export const identityDirectory = (dataDirectory: string): string => join(dataDirectory, 'identity');

export const identityFiles = (directory: string): IdentityFiles => ({ authority: join(directory, 'ca.pem'), node: join(directory, 'node.pem'), revoked: join(directory, 'revoked.pem') });

/** undefined where there is none, or a part of it is missing. */
export function readIdentity(directory: string): Identity | undefined {
  const files = identityFiles(directory);
  try {
    const node = readFileSync(files.node, 'utf8');
    const [certificate, key] = ['CERTIFICATE', 'PRIVATE KEY'].map((label) => new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----`).exec(node)?.[0]);
    return certificate === undefined || key === undefined ? undefined : { authority: readFileSync(files.authority, 'utf8').trim(), certificate, key, revoked: readFileSync(files.revoked, 'utf8').trim() };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

export function writeIdentity(directory: string, { authority, certificate, key, revoked }: Identity): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const files = identityFiles(directory);
  replace(files.authority, `${authority}\n`);
  writeRevoked(directory, revoked);
  replace(files.node, `${certificate}\n${key.trim()}\n`);
}

export const writeRevoked = (directory: string, revoked: string): void => replace(identityFiles(directory).revoked, `${revoked}\n`);

/** A crash leaves the old file or the new one. */
function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
