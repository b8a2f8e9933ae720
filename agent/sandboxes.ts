/**
 * Which networks each sandbox is on, and the hooking-up of names in it. Docker names a sandbox's path at Join; up to
 * engine 27 the namespace appears there only some 100 ms later, so the directory is watched and the resolver hooked up
 * the moment it does, which is before the container's first process runs.
 */
import { mkdirSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Network } from '../cnm/model.ts';
import type { Resolver } from '../dns/dns.ts';
import { isNetns } from '../linux/netns.ts';
import { sharesSubnet } from './network-scope.ts';
import { upstreamsOf } from './network-upstreams.ts';

/** Having the answer to Join, Docker works for 2 ms and then waits for the kernel to move the link, for 15 ms: until it waits, it is to have the CPU. */
const HOOK_UP_AFTER_MS = 5;

export interface Sandboxes {
  /** `native`: Docker knows nothing of this sandbox. */
  joined(path: string, network: Network, addresses: readonly string[], native: boolean): void;
  left(path: string, network: Network): void;
  /** Whether Docker has the sandbox on networks of its own as well; undefined: it cannot be asked. Those that we do not know are passed over. */
  elsewhere(path: string, elsewhere: boolean | undefined): void;
  /** Hooks up what is not, and lets go of what is gone. */
  repair(): Promise<void>;
  close(): void;
}

/** `networks`: with its addresses on each of them. */
interface Sandbox { networks: Map<string, { network: Network; addresses: readonly string[] }>; elsewhere: boolean | undefined }

export function createSandboxes({ resolver, log }: { resolver: Pick<Resolver, 'attach' | 'detach' | 'attached'>; log: Logger }): Sandboxes {
  const sandboxes = new Map<string, Sandbox>();
  const watchers = new Map<string, FSWatcher>();

  async function hookUp(path: string): Promise<void> {
    const sandbox = sandboxes.get(path);
    if (!sandbox || !isNetns(path)) return;
    try {
      await resolver.attach({
        path, elsewhere: sandbox.elsewhere, addresses: [...sandbox.networks.values()].flatMap(({ addresses }) => addresses),
        networks: [...sandbox.networks.values()].map(({ network }) => {
          const upstreams = upstreamsOf(network);
          return {
            id: network.id, name: network.name, internal: network.internal,
            subnets: network.subnets.map(({ subnet }) => subnet), shared: sharesSubnet(network), ...(upstreams && { upstreams }),
          };
        }),
      });
    } catch (error) {
      log.warn({ sandbox: path, detail: errorText(error) }, 'the resolver could not be hooked up; Docker\'s own answers there');
    }
  }

  function watchDirectory(path: string): void {
    const directory = dirname(path);
    if (watchers.has(directory)) return;
    mkdirSync(directory, { recursive: true });
    // The event comes when the file is made; the namespace is mounted on it an instant later.
    const watcher = watch(directory, (_, name) => {
      const appeared = name === null ? undefined : [...sandboxes.keys()].find((each) => basename(each) === name && dirname(each) === directory);
      if (appeared !== undefined) void retry(appeared);
    });
    watcher.on('error', () => watchers.delete(directory));
    watchers.set(directory, watcher.unref());
  }

  async function retry(path: string): Promise<void> {
    for (let wait = 1; wait <= 128 && sandboxes.has(path); wait *= 2) {
      if (isNetns(path)) return hookUp(path);
      await new Promise((resolve) => setTimeout(resolve, wait).unref());
    }
  }

  return {
    joined: (path, network, addresses, native) => {
      const sandbox: Sandbox = sandboxes.get(path) ?? { networks: new Map(), elsewhere: native ? false : undefined };
      sandbox.networks.set(network.id, { network, addresses });
      sandboxes.set(path, sandbox);
      watchDirectory(path);
      // Docker waits for the answer to Join; the container's first query comes when it has moved the link.
      setTimeout(() => void retry(path), native ? 0 : HOOK_UP_AFTER_MS).unref();
    },
    left: (path, network) => {
      const networks = sandboxes.get(path)?.networks;
      if (!networks?.delete(network.id)) return;
      if (networks.size > 0) {
        void hookUp(path);
      } else {
        sandboxes.delete(path);
        setImmediate(() => sandboxes.has(path) || resolver.detach(path));
      }
    },
    elsewhere: (path, elsewhere) => {
      const sandbox = sandboxes.get(path);
      if (!sandbox || sandbox.elsewhere === elsewhere) return;
      sandbox.elsewhere = elsewhere;
      void hookUp(path);
    },
    repair: async () => {
      for (const path of resolver.attached()) if (!sandboxes.has(path) || !isNetns(path)) resolver.detach(path);
      for (const path of sandboxes.keys()) {
        await hookUp(path);
        await nextTurn();
      }
    },
    close: () => {
      for (const watcher of watchers.values()) watcher.close();
    },
  };
}
