/** A certificate authority for tests, made with `openssl`. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { TlsFiles } from './etcd-tls.ts';

export interface AuthorityForTests {
  /** A certificate for client and server use, valid for a day. Without a name it has an empty subject, as nodes' have. */
  issue(options?: { commonName?: string; addresses?: readonly string[]; names?: readonly string[] }): Required<TlsFiles>;
}

export function authorityForTests(parent: string): AuthorityForTests {
  const folder = mkdtempSync(join(parent, 'ca-'));
  const ca = join(folder, 'ca.pem');
  const caKey = join(folder, 'ca.key');
  const openssl = (...args: string[]): void => void execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', ...args,
  ], { stdio: ['ignore', 'ignore', 'pipe'] });
  openssl('-subj', '/CN=authority', '-keyout', caKey, '-out', ca, '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
  let issued = 0;
  return {
    issue: ({ commonName, addresses = ['127.0.0.1'], names = [] } = {}) => {
      const cert = join(folder, `${++issued}.pem`);
      const key = join(folder, `${issued}.key`);
      openssl('-CA', ca, '-CAkey', caKey, '-subj', commonName === undefined ? '/' : `/CN=${commonName}`, '-keyout', key, '-out', cert,
        '-addext', `subjectAltName=critical,${[...addresses.map((address) => `IP:${address}`), ...names.map((name) => `DNS:${name}`)].join(',')}`,
        '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'extendedKeyUsage=serverAuth,clientAuth');
      return { ca, cert, key };
    },
  };
}
