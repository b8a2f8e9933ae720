/** The cluster's own certificate authority, and the certificates of its nodes (RFC 5280; ECDSA P-256). */
import { X509Certificate, createHash, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { weftError } from '../../base/errors.ts';
import { withOpenssl } from './openssl.ts';

/** PEM. */
export interface Authority { certificate: string; key: string }

export interface NodeName {
  /** 16 hex digits. */
  id: string;
  /** IPv4 addresses that others reach it at. */
  addresses: readonly string[];
}

/** An authority is believed by its hash, whatever the time of day is. Without an end as RFC 5280 §4.1.2.5 writes it. */
const ALWAYS = ['-startdate', '20250101000000Z', '-enddate', '99991231235959Z'] as const;
const REVOCATION_DAYS = 3650;
/** Clocks of two hosts may differ by so much: one that keeps local time is up to 14 h off. */
const CLOCK_SKEW_MS = 24 * 3_600_000;
const NODE_URI = 'weft://node/';

/** A private key, PKCS 8 in PEM. */
export async function newKey(): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256', privateKeyEncoding: { type: 'pkcs8', format: 'pem' }, publicKeyEncoding: { type: 'spki', format: 'pem' } });
  return privateKey;
}

export async function createAuthority(): Promise<Authority> {
  const key = await newKey();
  const request = await requestCertificate(key);
  const certificate = await withOpenssl(async ({ file, path, read, openssl }) => {
    await file('index.txt', '');
    const config = await file('ca.conf', `[ca]\ndefault_ca=weft\n[weft]\n${[
      `database=${path('index.txt')}`, `new_certs_dir=${path('')}`, `private_key=${await file('ca.key', key)}`, 'rand_serial=yes', 'default_md=sha256', 'policy=any', 'email_in_dn=no', 'x509_extensions=authority',
    ].join('\n')}\n[any]\norganizationName=optional\n[authority]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n`);
    await openssl('ca', '-selfsign', '-batch', '-notext', '-config', config, '-in', await file('request.pem', request), '-out', path('ca.pem'), ...ALWAYS);
    return read('ca.pem');
  });
  return { certificate: certificate.trim(), key };
}

/** A certificate signing request for a key, PEM. Who it is for is decided by whoever signs. */
export const requestCertificate = (key: string): Promise<string> => withOpenssl(async ({ file, openssl }) =>
  openssl('req', '-new', '-key', await file('node.key', key), '-sha256', '-subj', '/O=Weft', '-config', await file('req.conf', '[req]\ndistinguished_name=dn\n[dn]\n')));

export interface IssueOptions { node: NodeName; lifetimeMs: number; now: number }

/** Signs a request; returns the certificate, PEM. Throws WEFT-OPENSSL where the request is none, or not signed by its own key. */
export function issueCertificate(authority: Authority, request: string, { node, lifetimeMs, now }: IssueOptions): Promise<string> {
  return withOpenssl(async ({ file, path, read, openssl }) => {
    await file('index.txt', '');
    const names = [`URI:${NODE_URI}${node.id}`, ...node.addresses.map((address) => `IP:${address}`), 'IP:127.0.0.1', 'DNS:localhost'];
    const config = await file('ca.conf', `[ca]\ndefault_ca=weft\n[weft]\n${[
      `database=${path('index.txt')}`, `new_certs_dir=${path('')}`, `certificate=${await file('ca.pem', authority.certificate)}`, `private_key=${await file('ca.key', authority.key)}`,
      'rand_serial=yes', 'default_md=sha256', 'policy=any', 'copy_extensions=none', 'email_in_dn=no', 'x509_extensions=node',
    ].join('\n')}\n[any]\norganizationName=optional\n[node]\n${[
      'basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', 'extendedKeyUsage=serverAuth,clientAuth',
      `subjectAltName=${names.join(',')}`, 'subjectKeyIdentifier=hash', 'authorityKeyIdentifier=keyid',
    ].join('\n')}\n`);
    await openssl(
      'ca', '-batch', '-notext', '-config', config, '-in', await file('request.pem', request), '-out', path('node.pem'), '-subj', '/O=Weft',
      '-startdate', asn1Time(now - CLOCK_SKEW_MS), '-enddate', asn1Time(now + lifetimeMs),
    );
    return (await read('node.pem')).trim();
  });
}

/** The list of certificates that are refused although they have not expired (RFC 5280 §5), PEM. `serials` in hex. */
export function revocationList(authority: Authority, serials: readonly string[], now: number): Promise<string> {
  return withOpenssl(async ({ file, path, openssl }) => {
    await file('index.txt', serials.map((serial) => `R\t${utcTime(now + REVOCATION_DAYS * 86_400_000)}\t${utcTime(now)}\t${serial}\tunknown\t/O=Weft\n`).join(''));
    const config = await file('ca.conf', `[ca]\ndefault_ca=weft\n[weft]\ndatabase=${path('index.txt')}\ncertificate=${await file('ca.pem', authority.certificate)}\nprivate_key=${await file('ca.key', authority.key)}\ndefault_md=sha256\ncrl_extensions=crl\n[crl]\nauthorityKeyIdentifier=keyid\n`);
    return (await openssl('ca', '-gencrl', '-config', config, '-crl_lastupdate', asn1Time(now - CLOCK_SKEW_MS), '-crldays', String(REVOCATION_DAYS))).trim();
  });
}

/** SHA-256 of the authority's certificate (DER), hex: what a join token is bound to. */
export const fingerprint = (certificate: string | X509Certificate): string =>
  createHash('sha256').update((typeof certificate === 'string' ? new X509Certificate(certificate) : certificate).raw).digest('hex');

/** The node that a certificate was issued to. Throws WEFT-IDENTITY where it names none. */
export function nodeOf(certificate: X509Certificate): string {
  const id = new RegExp(`URI:${NODE_URI}([0-9a-f]{16})(?:,|$)`).exec(certificate.subjectAltName ?? '')?.[1];
  if (id === undefined) throw weftError('WEFT-IDENTITY', { detail: 'the certificate names no node' });
  return id;
}

/** GeneralizedTime, UTC. */
const asn1Time = (time: number): string => `${new Date(time).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
/** UTCTime, with a year of two digits: what openssl wants in its index. */
const utcTime = (time: number): string => asn1Time(time).slice(2);
