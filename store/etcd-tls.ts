/** Client certificates for etcd, read again when their files change: they are renewed while weftd runs. */
import { readFileSync, statSync } from 'node:fs';
import type { ClientRequest } from 'node:http';
import type { Agent, RequestOptions } from 'node:https';
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

/**
 * Paths of PEM files. `ca`: who may sign etcd's certificate, else the authorities that Node knows. `cert` and `key`: what
 * this client shows. With etcd's own authentication on, the certificate must have no common name: etcd 3.4's gateway
 * refuses one that has.
 */
export interface TlsFiles { ca?: string; cert?: string; key?: string }

/** A renewed certificate is used within so long. */
const CHECK_MS = 1000;

export interface TlsAgents {
  /** As https.request. Throws when the files were never usable. */
  request(url: URL, options: RequestOptions): ClientRequest;
  close(): void;
}

/** When it is used first: TLS takes megabytes that a store in the clear, or on this host, has no use for. */
const https = () => process.getBuiltinModule('node:https');

/** Tells a replaced file from the one before: size and times alone could be equal. */
const stampOf = (files: TlsFiles): string => Object.values(files).map((path: string) => {
  const { ino, size, mtimeMs } = statSync(path);
  return `${ino} ${size} ${mtimeMs}`;
}).join(', ');

export function createTlsAgents({ files, clock, log }: { files: TlsFiles; clock: Clock; log: Logger }): TlsAgents {
  let agent: Agent | undefined;
  let stamp = '';
  let complaint = '';
  let checkedAt = -Infinity;

  function load(): void {
    const found = stampOf(files);
    if (agent && found === stamp) return;
    const material = Object.fromEntries(Object.entries(files).map(([name, path]: [string, string]) => [name, readFileSync(path)]));
    // Throws when certificate and key do not belong together, as between the two renames of a renewal.
    const secureContext = process.getBuiltinModule('node:tls').createSecureContext(material);
    const before = agent;
    // A resumed session would go on with the certificate of its first handshake.
    agent = new (https().Agent)({ keepAlive: true, maxCachedSessions: 0, secureContext });
    stamp = found;
    complaint = '';
    if (before) retire(before);
  }

  function current(): Agent {
    if (agent && clock.now() - checkedAt < CHECK_MS) return agent;
    checkedAt = clock.now();
    try {
      load();
    } catch (error) {
      if (!agent) throw error;
      // Said once, not every second.
      if (complaint !== errorText(error)) log.warn({ files, detail: errorText(error) }, 'certificates cannot be read again; the ones read before are used');
      complaint = errorText(error);
    }
    return agent!;
  }

  return {
    request: (url, options) => https().request(url, { ...options, agent: current() }),
    close: () => agent?.destroy(),
  };
}

/** Requests under way are finished; no connection is used again. */
function retire(agent: Agent): void {
  agent.maxFreeSockets = 0;
  for (const socket of Object.values(agent.freeSockets).flat()) socket?.destroy();
}
