import { X509Certificate, createPublicKey } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import tap, { test } from 'tap';
import { createAuthority, fingerprint, issueCertificate, newKey, nodeOf, requestCertificate, revocationList } from './authority.ts';

const HOUR = 3_600_000;
const node = { id: '0123456789abcdef', addresses: ['10.0.0.1', '10.99.0.1'] };
/** Nobody else's: another process may be making certificates, or have been killed while it did. */
const place = mkdtempSync(join(tmpdir(), 'weft-authority-test-'));
process.env['TMPDIR'] = place;
tap.teardown(() => rmSync(place, { recursive: true }));
const places = (): string[] => readdirSync(place).filter((name) => name.startsWith('weft-identity-'));

test('an authority signs for nodes: names, times and uses are what was asked for', async (t) => {
  const now = Date.now();
  const authority = await createAuthority();
  const key = await newKey();
  const certificate = new X509Certificate(await issueCertificate(authority, await requestCertificate(key), { node, lifetimeMs: 12 * HOUR, now }));
  const ca = new X509Certificate(authority.certificate);
  t.ok(ca.ca && ca.verify(ca.publicKey));
  t.ok(certificate.checkIssued(ca) && certificate.verify(ca.publicKey));
  t.notOk(certificate.ca);
  t.equal(nodeOf(certificate), node.id);
  t.ok(certificate.checkIP('10.0.0.1') && certificate.checkIP('10.99.0.1') && certificate.checkIP('127.0.0.1'));
  t.notOk(certificate.checkIP('10.0.0.2'));
  t.equal(certificate.publicKey.export({ type: 'spki', format: 'pem' }), createPublicKey(key).export({ type: 'spki', format: 'pem' }));
  t.ok(Math.abs(Date.parse(certificate.validTo) - (now + 12 * HOUR)) < 2_000, 'valid for so long');
  for (const each of [certificate, ca]) t.ok(Date.parse(each.validFrom) <= now - 24 * HOUR + 2_000, 'also where the clock is a day behind');
  t.equal(ca.validTo, 'Dec 31 23:59:59 9999 GMT');
  t.match(fingerprint(authority.certificate), /^[0-9a-f]{64}$/);
  t.same(places(), [], 'no key is left lying about');
});

test('what is no request is refused, and a certificate that names no node', async (t) => {
  const authority = await createAuthority();
  await t.rejects(issueCertificate(authority, 'nonsense', { node, lifetimeMs: HOUR, now: Date.now() }), { code: 'WEFT-OPENSSL' });
  t.throws(() => nodeOf(new X509Certificate(authority.certificate)), { code: 'WEFT-IDENTITY' });
  t.same(places(), []);
});

test('two nodes speak TLS to each other; a stranger, an expired and a revoked one are refused', async (t) => {
  const now = Date.now();
  const [ours, theirs] = await Promise.all([createAuthority(), createAuthority()]);
  const make = async (authority: typeof ours, lifetimeMs: number) => {
    const key = await newKey();
    return { key, cert: await issueCertificate(authority, await requestCertificate(key), { node, lifetimeMs, now }) };
  };
  const [server, client, stranger, expired, removed] = await Promise.all([make(ours, HOUR), make(ours, HOUR), make(theirs, HOUR), make(ours, -60_000), make(ours, HOUR)]);
  const crl = await revocationList(ours, [new X509Certificate(removed.cert).serialNumber], now);
  const listener = tls.createServer({ ...server, ca: ours.certificate, crl, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' }, (socket) => socket.end('welcome'));
  t.teardown(() => listener.close());
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as { port: number };
  const speak = (credentials: object, ca: string): Promise<string> => new Promise((resolve) => {
    let text = '';
    const socket = tls.connect({ host: '127.0.0.1', port, ca, ...credentials });
    socket.on('data', (chunk: Buffer) => (text += chunk.toString())).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message)).on('close', () => resolve(text));
  });
  t.equal(await speak(client, ours.certificate), 'welcome');
  t.not(await speak(stranger, ours.certificate), 'welcome', 'of another authority');
  t.not(await speak({}, ours.certificate), 'welcome', 'without a certificate');
  t.not(await speak(expired, ours.certificate), 'welcome', 'expired');
  t.not(await speak(removed, ours.certificate), 'welcome', 'revoked');
  t.match(await speak(client, theirs.certificate), /^(UNABLE_TO_VERIFY_LEAF_SIGNATURE|CERT_SIGNATURE_FAILURE|SELF_SIGNED_CERT_IN_CHAIN)$/, 'nor does a node believe a stranger');
});
