import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { test, type Test } from 'tap';
import { weftError } from '../../base/errors.ts';
import { silentLogger } from '../../base/log.ts';
import { createAuthority, fingerprint, issueCertificate, newKey, nodeOf, requestCertificate, revocationList, type Authority } from './authority.ts';
import { join } from './join-client.ts';
import { createJoinServer, type MemberCalls } from './join-server.ts';
import type { JoinAnswer, JoinRequest } from './join.ts';
import { newSecret, sameSecret, type Token } from './token.ts';

const HOUR = 3_600_000;
const SETTINGS = { store: { endpoints: ['https://127.0.0.1:2379'], own: true }, gossipPort: 7947, vxlanPort: 4789, nodePrefix: '10.255.0.0/16', defaultPools: ['10.192.0.0/11'] };

async function certify(authority: Authority, id: string) {
  const key = await newKey();
  return { key, certificate: await issueCertificate(authority, await requestCertificate(key), { node: { id, addresses: ['127.0.0.1'] }, lifetimeMs: HOUR, now: Date.now() }) };
}

/** A node that admits whoever knows the secret; requests that came are recorded. */
async function cluster(t: Test, authority: Authority, memberCalls: MemberCalls = {}) {
  const secret = newSecret();
  const asked: JoinRequest[] = [];
  const own = await certify(authority, '0'.repeat(16));
  const server = createJoinServer({
    credentials: { ...own, authority: authority.certificate }, memberCalls, log: silentLogger,
    admit: async (request): Promise<JoinAnswer> => {
      asked.push(request);
      if (!sameSecret(request.secret, secret)) throw weftError('WEFT-TOKEN-REFUSED', { detail: 'its secret is wrong or has been changed' });
      return { certificate: await issueCertificate(authority, request.request, { node: { id: request.id, addresses: [request.address] }, lifetimeMs: HOUR, now: Date.now() }), authority: authority.certificate, revoked: await revocationList(authority, [], Date.now()), ...SETTINGS };
    },
  });
  const listener = net.createServer((socket) => server.accept(socket)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.teardown(() => {
    server.close();
    listener.close();
  });
  const token: Token = { authority: fingerprint(authority.certificate), secret, host: '127.0.0.1', port: (listener.address() as net.AddressInfo).port };
  return { token, asked, server };
}

async function joiner() {
  const key = await newKey();
  return { request: await requestCertificate(key), id: '0123456789abcdef', name: 'h2', address: '127.0.0.2' };
}

test('a host with a token gets a certificate and what it has to know', async (t) => {
  const authority = await createAuthority();
  const { token, asked } = await cluster(t, authority);
  const answer = await join(token, await joiner());
  t.equal(nodeOf(new X509Certificate(answer.certificate)), '0123456789abcdef');
  t.equal(answer.authority, authority.certificate);
  t.match(answer, SETTINGS);
  t.equal(asked.length, 1);
});

test('a wrong secret is refused, in the cluster\'s words', async (t) => {
  const { token } = await cluster(t, await createAuthority());
  await t.rejects(join({ ...token, secret: newSecret() }, await joiner()), { code: 'WEFT-TOKEN-REFUSED', message: /wrong or has been changed.*weft token/ });
});

test('to somebody who is not of the cluster nothing is said', async (t) => {
  const { token, asked } = await cluster(t, await createAuthority());
  const wanted = fingerprint((await createAuthority()).certificate);
  await t.rejects(join({ ...token, authority: wanted }, await joiner()), { code: 'WEFT-JOIN-STRANGER' });
  t.equal(asked.length, 0);
  // Shows the right authority's certificate, which is no secret, above a certificate that it made itself.
  const [real, false_] = await Promise.all([createAuthority(), createAuthority()]);
  const own = await certify(false_, '0'.repeat(16));
  let told = '';
  const liar = tls.createServer({ cert: `${own.certificate}\n${real.certificate}\n`, key: own.key, minVersion: 'TLSv1.3' }, (socket) => void socket.on('data', (chunk: Buffer) => (told += chunk.toString())).on('error', () => {}));
  liar.listen(0, '127.0.0.1');
  await once(liar, 'listening');
  t.teardown(() => liar.close());
  await t.rejects(join({ ...token, authority: fingerprint(real.certificate), port: (liar.address() as net.AddressInfo).port }, await joiner()), { code: 'WEFT-JOIN-STRANGER' });
  t.equal(told, '');
});

test('nobody there, no TLS there, nonsense there', async (t) => {
  const { token, server } = await cluster(t, await createAuthority());
  const silent = net.createServer((socket) => socket.resume().on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const port = (silent.address() as net.AddressInfo).port;
  await t.rejects(join({ ...token, port }, await joiner()), { code: 'WEFT-JOIN-UNREACHABLE' });
  silent.close();
  await once(silent, 'close');
  await t.rejects(join({ ...token, port }, await joiner()), { code: 'WEFT-JOIN-UNREACHABLE', message: /ECONNREFUSED/ });
  // Hostile input at the server: it goes on.
  for (const bytes of ['\x16\x03\x01\xff\xff', '\x16', 'GET / HTTP/1.0\r\n\r\n']) {
    const socket = net.connect(token.port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    await new Promise((resolve) => socket.write(Buffer.from(bytes, 'latin1'), resolve));
    socket.destroy();
  }
  await t.rejects(join({ ...token, secret: 'x' }, { ...await joiner(), id: 'not an id' }), { code: 'WEFT-INPUT-MALFORMED', message: /id/ });
  const next = await createAuthority();
  const renewed = await certify(next, '1'.repeat(16));
  server.renew({ ...renewed, authority: next.certificate });
  await t.rejects(join(token, await joiner()), { code: 'WEFT-JOIN-STRANGER' }, 'who has other credentials by now shows them');
});

test('members are served, by their certificates', async (t) => {
  const [authority, strange] = [await createAuthority(), await createAuthority()];
  const { token, server } = await cluster(t, authority, { '/v1/hello': async (body, caller) => ({ to: nodeOf(caller), body }) });
  const ask = async (credentials: { key?: string; certificate?: string }, path = '/v1/hello'): Promise<unknown> => {
    const request = https.request({ host: '127.0.0.1', port: token.port, method: 'POST', path, agent: false, ca: authority.certificate, key: credentials.key, cert: credentials.certificate });
    request.end('{"a":1}');
    const [response] = (await once(request, 'response')) as [AsyncIterable<Buffer>];
    let text = '';
    for await (const chunk of response) text += chunk.toString();
    return JSON.parse(text);
  };
  const member = await certify(authority, 'a'.repeat(16));
  t.same(await ask(member), { to: 'a'.repeat(16), body: { a: 1 } });
  t.match(await ask({}), { code: 'WEFT-CALL-UNKNOWN' }, 'without one');
  t.match(await ask(await certify(strange, 'a'.repeat(16))), { code: 'WEFT-CALL-UNKNOWN' }, 'of another authority');
  t.match(await ask(member, '/v1/constructor'), { code: 'WEFT-CALL-UNKNOWN' });
  const revoked = await revocationList(authority, [new X509Certificate(member.certificate).serialNumber], Date.now());
  server.renew({ ...await certify(authority, '0'.repeat(16)), authority: authority.certificate, revoked });
  t.match(await ask(member), { code: 'WEFT-CALL-UNKNOWN' }, 'one that was taken out');
  t.match(await ask(await certify(authority, 'b'.repeat(16))), { to: 'b'.repeat(16) });
});
