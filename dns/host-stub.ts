/** Where the host's programs ask for Weft's names: an address of its loopback, and systemd-resolved told of it where that runs. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { errorText, weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { HostDns, HostDnsState } from './dns.ts';
import { HOST_DOMAIN } from './host-names.ts';
import type { Chain } from './responder.ts';
import { openServer } from './sockets.ts';
import { serveTcp } from './tcp-server.ts';
import { serveUdp } from './udp-server.ts';

const PORT = 53;

export interface HostStubOptions { address: string; chain: Chain; batches: boolean; clock: Clock; log: Logger; onDrop: () => void; port?: number }

/** Serves over UDP and TCP until it is closed. Throws KernelError, leaving nothing behind: EADDRINUSE where another name server has the address. */
export function serveHost({ address, chain, batches, clock, log, onDrop, port = PORT }: HostStubOptions): { close(): void } {
  const onError = (error: Error): void => log.debug({ detail: error.message }, 'a socket for names of the host failed');
  const { udp, tcp } = openServer(address, port);
  const stopUdp = serveUdp(udp, { chain, batches, onError });
  const overTcp = serveTcp(tcp, { chain, clock, onDrop, onError });
  return {
    close: () => {
      stopUdp();
      overTcp.close();
    },
  };
}

/** Of systemd-resolved: there while it runs. */
const RESOLVED = '/run/systemd/resolve';
/** Gone after a boot, like everything else that Weft changes on a host. */
const DROP_IN = '/run/systemd/resolved.conf.d/weft.conf';

export interface ResolvedOptions {
  /** Whom to ask for the names in Weft's domain; undefined: nobody any more. */
  address: string | undefined;
  running?: string;
  dropIn?: string;
  reload?: () => Promise<unknown>;
}

const reloadResolved = (): Promise<unknown> => promisify(execFile)('systemctl', ['try-reload-or-restart', 'systemd-resolved.service'], { timeout: 10_000 });

/**
 * Has systemd-resolved ask the address for names in Weft's domain (resolved.conf(5)), or takes that back; it is disturbed only where this changes
 * something. Resolves to whether it asks there now. Rejects where it can be neither written nor told.
 */
export async function routeByResolved({ address, running = RESOLVED, dropIn = DROP_IN, reload = reloadResolved }: ResolvedOptions): Promise<boolean> {
  const text = address === undefined || !existsSync(running) ? undefined : `# Written by weftd: \`dns.host\` in its configuration.\n[Resolve]\nDNS=${address}\nDomains=~${HOST_DOMAIN}\n`;
  const present = existsSync(dropIn) ? readFileSync(dropIn, 'utf8') : undefined;
  if (text !== present) {
    if (text === undefined) {
      rmSync(dropIn);
    } else {
      mkdirSync(dirname(dropIn), { recursive: true });
      writeFileSync(`${dropIn}.new`, text);
      renameSync(`${dropIn}.new`, dropIn);
    }
    if (existsSync(running)) await reload();
  }
  return text !== undefined;
}

export interface HostDnsOptions extends Omit<HostStubOptions, 'address'> { address: string | undefined; resolved?: Omit<ResolvedOptions, 'address'> }

/** Both of it, where it is wanted; what was set up before is taken back where it is not. Never throws: the host's own names do not depend on it. */
export function openHostDns({ address, resolved: resolvedAt, log, ...options }: HostDnsOptions): HostDns & { close(): void } {
  let stub: { close(): void } | undefined;
  let state: HostDnsState = { address: undefined, resolved: false };
  let routed: Promise<unknown> = Promise.resolve();

  /** One at a time: what is said last counts. */
  function route(): Promise<HostDnsState> {
    const { address: to } = state;
    const done = routed.then(() => routeByResolved({ ...resolvedAt, address: to })).catch((error: unknown) => {
      log.warn({ detail: errorText(error) }, 'systemd-resolved could not be told about names in Weft\'s domain');
      return false;
    }).then((resolved) => {
      if (state.address === to) state = { address: to, resolved };
      return { address: to, resolved };
    });
    routed = done;
    return done;
  }

  function serve(next: string | undefined): void {
    if (next === state.address) return;
    const opened = next === undefined ? undefined : serveHost({ ...options, address: next, log });
    stub?.close();
    stub = opened;
    state = { address: next, resolved: false };
  }

  try {
    serve(address);
  } catch (error) {
    log.warn({ address, detail: errorText(error) }, 'programs of this host cannot ask for names in Weft\'s domain');
  }
  void route();
  return {
    state: () => state,
    change: async (next) => {
      try {
        serve(next);
      } catch (error) {
        throw weftError('WEFT-DNS-ADDRESS', { address: next!, detail: errorText(error) }, { cause: error });
      }
      return route();
    },
    // What resolved was told stays: weftd is back soon, and nobody else knows these names.
    close: () => stub?.close(),
  };
}
