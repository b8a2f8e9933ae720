/** Where the host's programs ask for Weft's names: an address of its loopback, and systemd-resolved told of it where that runs. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { check, sys } from '../linux/ffi.ts';
import { HOST_DOMAIN } from './host-names.ts';
import type { Chain } from './responder.ts';
import { boundSocket } from './sockets.ts';
import { serveTcp } from './tcp-server.ts';
import { serveUdp } from './udp-server.ts';

const PORT = 53;
const BACKLOG = 64;

export interface HostStubOptions { address: string; chain: Chain; batches: boolean; clock: Clock; log: Logger; onDrop: () => void; port?: number }

/** Serves over UDP and TCP until it is closed. Throws KernelError, leaving nothing behind: EADDRINUSE where another name server has the address. */
export function serveHost({ address, chain, batches, clock, log, onDrop, port = PORT }: HostStubOptions): { close(): void } {
  const onError = (error: Error): void => log.debug({ detail: error.message }, 'a socket for names of the host failed');
  const udp = boundSocket('udp', address, port);
  let tcp: number | undefined;
  try {
    tcp = boundSocket('tcp', address, port);
    check('listen for names of the host', sys.listen(tcp, BACKLOG));
  } catch (error) {
    sys.close(udp);
    if (tcp !== undefined) sys.close(tcp);
    throw error;
  }
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
export function openHostDns({ address, resolved, log, ...options }: HostDnsOptions): { close(): void } {
  const route = (to: string | undefined): void => void routeByResolved({ ...resolved, address: to })
    .catch((error: unknown) => log.warn({ detail: errorText(error) }, 'systemd-resolved could not be told about names in Weft\'s domain'));
  if (address === undefined) {
    route(undefined);
    return { close: () => {} };
  }
  try {
    const stub = serveHost({ ...options, address, log });
    route(address);
    // What resolved was told stays: weftd is back soon, and nobody else knows these names.
    return stub;
  } catch (error) {
    log.warn({ address, detail: errorText(error) }, 'programs of this host cannot ask for names in Weft\'s domain');
    route(undefined);
    return { close: () => {} };
  }
}
