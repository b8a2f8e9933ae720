/** This node as a member of a cluster with an identity: its certificate, renewed in time, and the door for hosts that join. */
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../base/clock.ts';
import { WeftError, errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { fingerprint, issueCertificate, newKey, nodeOf, requestCertificate } from '../cluster/identity/authority.ts';
import { enterCertificate, revocations, watchRevocations, type Revocations } from '../cluster/identity/certificates.ts';
import { checkSecret, clusterAuthority, foundAuthority, joinSecret } from '../cluster/identity/credentials.ts';
import { readIdentity, writeIdentity, writeRevoked, type Identity } from '../cluster/identity/files.ts';
import type { JoinServer, MemberCalls } from '../cluster/identity/join-server.ts';
import type { JoinAnswer, JoinRequest } from '../cluster/identity/join.ts';
import { formatToken } from '../cluster/identity/token.ts';
import type { Compare, Store } from '../store/store.ts';

/** Between the twelve hours and the ninety days that make sense. */
const LIFETIME_MS = 30 * 86_400_000;
/** A certificate is renewed at a random moment of this part of its life, so that a cluster does not do so at once. */
const RENEW = { from: 0.5, to: 0.7 } as const;
const CHECK_MS = 3_600_000;
const RETRY_MS = 10_000;
/** Each attempt that fails means that something else of this node's certificates was written. */
const ATTEMPTS = 64;

export interface JoiningOptions {
  store: Store;
  /** Where the identity lies on the disk. */
  directory: string;
  node: { id: string; address: string };
  /** Gives the cluster a store that others reach, where this node keeps its state alone. */
  found(): Promise<void>;
  /** What a joiner is told besides. */
  settings(): Omit<JoinAnswer, 'certificate' | 'authority' | 'revoked'>;
  /** Throws where a node may not join: its name is taken, say. */
  admissible(request: JoinRequest): void;
  /** A node whose certificates are refused from now on was at these addresses; the list is on the disk. */
  onRevoked(addresses: readonly string[]): void;
  /** This node was taken out. */
  onRemoved(error: WeftError): void;
  memberCalls: MemberCalls;
  clock: Clock;
  random: Random;
  log: Logger;
}

export interface Joining {
  /** This node's; undefined until it has one. */
  identity(): Identity | undefined;
  /** A TLS connection at the gossip port. */
  accept(socket: Socket): void;
  /** What `weft join` is given. `rotate`: earlier ones are refused from now on. */
  token(rotate: boolean): Promise<{ token: string; expires: number }>;
  close(): void;
}

export function startJoining(options: JoiningOptions): Joining {
  const { store, directory, node, clock, random, log } = options;
  const share = RENEW.from + random.float() * (RENEW.to - RENEW.from);
  let identity = readIdentity(directory);
  let server: JoinServer | undefined;
  let timer: TimerHandle;
  let closed = false;

  /** Loaded when somebody knocks: TLS takes megabytes that a node of a settled cluster has no use for. */
  async function accept(socket: Socket): Promise<void> {
    const { createJoinServer } = await import('../cluster/identity/join-server.ts');
    if (!identity || closed) return void socket.destroy();
    server ??= createJoinServer({ credentials: identity, admit, memberCalls: options.memberCalls, log });
    server.accept(socket);
  }

  async function admit(request: JoinRequest, from: string): Promise<JoinAnswer> {
    const now = clock.wallNow();
    await checkSecret(store, request.secret, now);
    options.admissible(request);
    const authority = await clusterAuthority(store);
    const certificate = await issueCertificate(authority, request.request, { node: { id: request.id, addresses: [request.address] }, lifetimeMs: LIFETIME_MS, now });
    const { list: revoked } = await revocations(store, now);
    // The token is looked at again in the very transaction that lets the host in: it may have been changed meanwhile.
    await enter(certificate, now, async () => [await checkSecret(store, request.secret, now)]);
    log.info({ node: request.id, name: request.name, address: request.address, from }, 'a host joins');
    return { certificate, authority: authority.certificate, revoked, ...options.settings() };
  }

  async function enter(certificate: string, now: number, guards: () => Promise<Compare[]> = async () => []): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) if (await enterCertificate(store, certificate, now, await guards())) return;
    throw weftError('WEFT-STORE-CONFLICT', { what: 'the list of certificates' });
  }

  function isDue({ certificate }: Identity, now: number): boolean {
    const issued = new X509Certificate(certificate);
    const [from, to] = [Date.parse(issued.validFrom), Date.parse(issued.validTo)];
    return nodeOf(issued) !== node.id || !issued.checkIP(node.address) || now > from + share * (to - from);
  }

  /** Every node may read the authority's key, so none has to ask another. */
  async function ensure(): Promise<void> {
    const now = clock.wallNow();
    // Not founded anew in a store that was emptied: every other node of this cluster would be taken for one of another.
    const { certificate: authority, key: authorityKey } = identity ? await clusterAuthority(store, identity.authority) : await foundAuthority(store);
    if (!identity || isDue(identity, now)) {
      const key = await newKey();
      const certificate = await issueCertificate({ certificate: authority, key: authorityKey }, await requestCertificate(key), { node: { id: node.id, addresses: [node.address] }, lifetimeMs: LIFETIME_MS, now });
      const { list: revoked } = await revocations(store, now);
      await enter(certificate, now);
      const renewed = { authority, certificate, key, revoked };
      writeIdentity(directory, renewed);
      log.info({}, identity ? 'the certificate of this node was renewed' : 'this node has a certificate');
      identity = renewed;
    } else await enter(identity.certificate, now);
    server?.renew(identity);
  }

  function onRevocations({ certificates, list }: Revocations): void {
    if (!identity || identity.revoked === list) return;
    writeRevoked(directory, list);
    identity = { ...identity, revoked: list };
    server?.renew(identity);
    const { serialNumber } = new X509Certificate(identity.certificate);
    if (certificates.some(({ serial }) => serial === serialNumber)) options.onRemoved(weftError('WEFT-NODE-REMOVED', {}));
    else options.onRevoked([...new Set(certificates.map(({ address }) => address))]);
  }

  async function round(): Promise<void> {
    let next = CHECK_MS;
    try {
      await ensure();
    } catch (error) {
      if (error instanceof WeftError && error.code === 'WEFT-NODE-REMOVED') return options.onRemoved(error);
      next = RETRY_MS;
      log.warn({ detail: errorText(error) }, 'the certificate of this node could not be made or renewed; tried again');
    }
    if (!closed) timer = clock.setTimeout(() => void round(), next);
  }
  const stopWatching = watchRevocations(store, (revoked) => {
    try {
      onRevocations(revoked);
    } catch (error) {
      log.error({ detail: errorText(error) }, 'the list of revoked certificates could not be written');
    }
  });
  void round();

  return {
    identity: () => identity,
    accept: (socket) => {
      accept(socket).catch((error: unknown) => {
        log.warn({ detail: errorText(error) }, 'a host that joins could not be served');
        socket.destroy();
      });
    },
    token: async (rotate) => {
      if (!identity) throw weftError('WEFT-IDENTITY', { detail: 'it has no certificate yet' });
      await options.found();
      const { secret, expires } = await joinSecret(store, clock.wallNow(), rotate);
      return { token: formatToken({ authority: fingerprint(identity.authority), secret, host: node.address, port: options.settings().gossipPort }), expires };
    },
    close: () => {
      closed = true;
      clock.clearTimeout(timer);
      stopWatching();
      server?.close();
    },
  };
}
