/** The embedded resolver of all sandboxes of this node. */
import { statSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { weftError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { parsePrefix } from '../base/prefix.ts';
import type { Random } from '../base/random.ts';
import { isNetns, openNetns } from '../linux/netns.ts';
import { createChain, OUTCOMES, type ChainNetworks, type Outcome } from './chain.ts';
import type { NameSource, Resolver, SandboxNames } from './dns.ts';
import { createDockerResolver } from './docker-resolver.ts';
import { hookUp } from './hookup.ts';
import { resolvConf } from './resolv-conf.ts';
import { foreignPorts } from './resolver-ports.ts';
import { createUpstreams } from './upstreams.ts';

export interface ResolverOptions {
  names: NameSource;
  log: Logger;
  clock: Clock;
  random: Random;
  /** Of own records, in seconds. */
  ttl: number;
  /** Addresses of the name servers for sandboxes without Docker's resolver; those of the host when left out. */
  upstreams?: () => string[];
}

interface Attached {
  /** Tells a namespace from another one that was mounted at the same path since. */
  inode: number;
  networks: ChainNetworks;
  close(): void;
}

export function createResolver({ names, log, clock, random, ttl, upstreams: servers = resolvConf() }: ResolverOptions): Resolver {
  const attached = new Map<string, Attached>();
  const upstreams = createUpstreams({ servers, clock, random });
  const instance = Buffer.from(random.bytes(4)).toString('hex');
  let hookups = 0;
  const counts: Record<Outcome | 'dropped', number> = { ...(Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0])) as Record<Outcome, number>), dropped: 0 };

  function open(sandbox: SandboxNames, inode: number): Attached {
    const netns = openNetns(sandbox.path);
    const sandboxLog = log.child({ sandbox: sandbox.path });
    const docker = createDockerResolver({ netns, ports: () => foreignPorts(netns), clock, random, log: sandboxLog });
    const entry: Attached = { inode, networks: describe(sandbox), close: () => {} };
    const chain = createChain({ names, networks: () => entry.networks, docker, upstreams, ttl, random, count: (outcome) => void counts[outcome]++ });
    try {
      const hookup = hookUp({ netns, tableName: `weft-dns-${instance}-${hookups++}`, chain, clock, log: sandboxLog, onDrop: () => void counts.dropped++ });
      entry.close = () => void hookup.close().then(() => {
        docker.close();
        netns.close();
      });
      return entry;
    } catch (error) {
      netns.close();
      throw error;
    }
  }

  function detach(path: string): void {
    const entry = attached.get(path);
    attached.delete(path);
    entry?.close();
  }

  return {
    attach: async (sandbox) => {
      const inode = isNetns(sandbox.path) ? statSync(sandbox.path).ino : undefined;
      const present = attached.get(sandbox.path);
      if (present && present.inode === inode) {
        present.networks = describe(sandbox);
        return;
      }
      // What was hooked up is dead; held open, it would never go.
      detach(sandbox.path);
      if (inode === undefined) throw weftError('WEFT-SANDBOX-GONE', { path: sandbox.path });
      attached.set(sandbox.path, open(sandbox, inode));
      // After a restart hundreds are attached in a row: let others have their turn.
      await new Promise((resolve) => setImmediate(resolve));
    },
    detach,
    attached: () => [...attached.keys()],
    stats: () => ({ ...counts }),
    close: () => {
      for (const path of attached.keys()) detach(path);
      upstreams.close();
    },
  };
}

function describe({ networks }: SandboxNames): ChainNetworks {
  const subnets = networks.flatMap(({ subnets: texts }) => texts.flatMap((text) => parsePrefix(text) ?? []));
  return {
    joined: networks.map(({ id, name }) => ({ id, name, suffix: name.toLowerCase() })),
    subnets,
    ipv4: subnets.some(({ family }) => family === 4),
    internal: networks.every(({ internal }) => internal),
  };
}
