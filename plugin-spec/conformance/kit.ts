/** What the checks talk to the plugin with. */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { errorText } from '../../base/errors.ts';
import { formatIp, formatPrefix, type Prefix } from '../../base/prefix.ts';
import { createPluginClient, type PluginAnswer } from '../plugin-client.ts';
import { readAnswer, type Outcome } from './answers.ts';
import { createHoldings } from './holdings.ts';

/** A /24 that no other check uses, an IPv6 /64 that goes with it, and their addresses. */
export interface Subnet { cidr: string; at(host: number): string; plain(host: number): string; ipv6: { cidr: string; at(host: number): string } }

export interface Kit {
  readonly socketPath: string;
  /** The calls that the plugin answers with success, and the value; throws otherwise. Without a body none is sent. */
  ok(call: string, body?: object): Promise<Record<string, unknown>>;
  /** Throws unless the plugin answers with an error. */
  refused(call: string, body?: object, otherwise?: string): Promise<string>;
  /** Success or error; throws when the plugin does not answer, or in words that Docker cannot read. */
  outcome(call: string, body?: object): Promise<Outcome>;
  /** Sends text as the body, as it is. */
  raw(call: string, text: string, headers?: Record<string, string>): Promise<PluginAnswer>;
  /** Sends all of a call and breaks the connection without waiting for the answer. */
  abandon(call: string, body: object): Promise<void>;
  newSubnet(): Subnet;
  /** As Docker makes them: 64 hex digits, or 25 base-36 digits for a network of swarm. */
  newId(kind?: 'swarm'): string;
  /** Path of a network namespace, with nothing there. */
  newSandbox(): string;
  pause(ms: number): Promise<void>;
}

/** Every id of the kit begins with it. */
export const MARK = 'decaf';

/** fd0d:ecaf::/32 (RFC 4193); the IPv4 subnet makes up the rest of the /64. */
const UNIQUE_LOCAL = 0xfd0decafn << 96n;

/** Headers of a later engine; checks of their own send the others. */
const HEADERS = { Host: 'plugin.moby.localhost', 'User-Agent': 'Go-http-client/1.1', Accept: 'application/vnd.docker.plugins.v1.2+json' };
const REMOVAL_TIMEOUT_MS = 5_000;
const INTERRUPTION_GRACE_MS = 2_000;
const DEFAULT_SANDBOXES = '/var/run/docker/netns';

export interface KitOptions {
  socketPath: string;
  /** Cut into /24s, one for each network. */
  subnet: Prefix;
  /** The longest that a call may take. */
  timeoutMs: number;
  /** From then on every call fails; giving back what is held still works. */
  signal?: AbortSignal;
}

/** Sends this and breaks the connection at once. */
export const breakConnection = (socketPath: string, bytes: string): Promise<void> => new Promise((resolve, reject) => {
  const socket = net.connect(socketPath, () => socket.write(bytes, () => socket.destroy()));
  socket.on('close', () => resolve()).on('error', reject);
});

export interface KitOwner {
  kit: Kit;
  /** Gives back all that the plugin holds for the kit; resolves to the calls that failed. */
  giveBack(): Promise<string[]>;
  close(): void;
}

export function createKit({ socketPath, subnet, timeoutMs, signal }: KitOptions): KitOwner {
  const holdings = createHoldings();
  const client = createPluginClient(socketPath, { timeoutMs, headers: HEADERS });
  const remover = createPluginClient(socketPath, { timeoutMs: Math.min(timeoutMs, REMOVAL_TIMEOUT_MS), headers: HEADERS });
  // What is under way is answered first where it can be: a plugin that still makes what is being removed would keep it.
  let grace: NodeJS.Timeout | undefined;
  signal?.addEventListener('abort', () => (grace = setTimeout(() => client.close(), INTERRUPTION_GRACE_MS)), { once: true });
  let subnets = 0;
  let ids = 0;

  const textOf = (body: object | undefined): string => (body === undefined ? '' : `${JSON.stringify(body)}\n`);

  async function send(call: string, text: string, headers?: Record<string, string>): Promise<PluginAnswer> {
    if (signal?.aborted) throw new Error('interrupted');
    const through = headers ? createPluginClient(socketPath, { timeoutMs, headers }) : client;
    try {
      return await through.post(call, text);
    } catch (error) {
      if (signal?.aborted) throw new Error('interrupted');
      const late = error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
      throw new Error(`${call}: ${late ? `no answer within ${timeoutMs / 1000} s` : errorText(error)}`, { cause: error });
    } finally {
      if (headers) through.close();
    }
  }

  async function outcome(call: string, body?: object): Promise<Outcome> {
    holdings.sent(call, body);
    const answer = await send(call, textOf(body));
    let read: Outcome;
    try {
      read = readAnswer(call, answer);
    } catch (error) {
      throw new Error(`${call}: ${errorText(error)}`);
    }
    holdings.answered(call, body, read.value);
    return read;
  }

  const kit: Kit = {
    socketPath,
    outcome,
    ok: async (call, body) => {
      const { value, error } = await outcome(call, body);
      if (value === undefined) throw new Error(`${call} is refused: ${error}`);
      return value;
    },
    refused: async (call, body, otherwise = 'accepted, but should be refused') => {
      const { error } = await outcome(call, body);
      if (error === undefined) throw new Error(`${call}: ${otherwise}`);
      return error;
    },
    raw: send,
    abandon: async (call, body) => {
      holdings.sent(call, body);
      const text = textOf(body);
      await breakConnection(socketPath, `POST /${call} HTTP/1.1\r\nHost: \r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    },
    newSubnet: () => {
      const base = subnet.base + BigInt(subnets++ % (1 << (24 - subnet.length))) * 256n;
      const plain = (host: number): string => formatIp(4, base + BigInt(host));
      const base6 = UNIQUE_LOCAL | (base << 64n);
      return {
        cidr: formatPrefix({ family: 4, base, length: 24 }), plain, at: (host) => `${plain(host)}/24`,
        ipv6: { cidr: formatPrefix({ family: 6, base: base6, length: 64 }), at: (host) => `${formatIp(6, base6 | BigInt(host))}/64` },
      };
    },
    newId: (kind) => {
      // The counter is in what shortened names keep, so that they differ, too.
      const beginning = MARK + (ids++ % 256).toString(16).padStart(2, '0');
      if (kind === 'swarm') return (beginning + BigInt(`0x${randomBytes(16).toString('hex')}`).toString(36)).padEnd(25, '0').slice(0, 25);
      return (beginning + randomBytes(32).toString('hex')).slice(0, 64);
    },
    newSandbox: () => `${DEFAULT_SANDBOXES}/${kit.newId().slice(0, 12)}`,
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  };

  return {
    kit,
    giveBack: async () => {
      const failed: string[] = [];
      for (const { call, body } of holdings.removal()) {
        try {
          const { value, error } = readAnswer(call, await remover.post(call, textOf(body)));
          if (value === undefined) failed.push(`${call} ${JSON.stringify(body)}: ${error}`);
          else holdings.answered(call, body, value);
        } catch (error) {
          failed.push(`${call} ${JSON.stringify(body)}: ${errorText(error)}`);
        }
      }
      return failed;
    },
    close: () => {
      clearTimeout(grace);
      client.close();
      remover.close();
    },
  };
}
