/** A resolver, sandboxes that it is hooked up in, and Docker's resolver beside it. */
import type { Test } from 'tap';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import type { Space } from '../linux/testing.ts';
import type { Resolver, SandboxNames } from './dns.ts';
import { createOwnRecords } from './own-records.ts';
import { createResolver, type ResolverOptions } from './resolver.ts';
import { RESOLVER_ADDRESS } from './sockets.ts';
import { askTcp, askUdp, fakeResolver, outcome, question, type FakeServer, type Reactions } from './testing.ts';
import { createNameTable, type NameTable } from './zone.ts';

export const WEB = { id: 'n-web', name: 'web', subnets: ['10.192.4.0/24'], shared: false, internal: false };
export const BACK = { id: 'n-back', name: 'back', subnets: ['10.192.5.0/24'], shared: false, internal: false };

export function scene(t: Test, hostServers: () => string[] = () => [], more: Pick<ResolverOptions, 'upstreams' | 'ca' | 'listen'> = {}): { names: NameTable; resolver: Resolver; put(network: { id: string; name: string }, name: string, ip: string): void } {
  const names = createNameTable();
  const resolver = createResolver({ names, records: createOwnRecords(), log: silentLogger, clock: systemClock, random: systemRandom, ttl: 5, batches: true, hostServers, ...more });
  t.teardown(resolver.close);
  return {
    names, resolver,
    put: (network, name, ip) => names.put({ networkId: network.id, networkName: network.name, endpointId: `e-${ip}`, ip, name, names: [], service: name }),
  };
}

export const sandboxOf = (at: Space, ...networks: SandboxNames['networks']): SandboxNames => ({ path: at.path, networks, elsewhere: false });
export const get = async (at: Space, name: string, type?: string): Promise<string> => outcome(await askUdp(at.netns, question(name, type)));
export const getTcp = async (at: Space, name: string): Promise<string> => outcome(await askTcp(at.netns, question(name)));

/** The resolver and the rules that Docker puts into a container's namespace. */
export function docker(t: Test, at: Space, reactions: Reactions): FakeServer {
  const server = fakeResolver(t, at.netns, reactions);
  const nat = (...rule: string[]): string => at.run('iptables', '-w', '-t', 'nat', ...rule);
  for (const chain of ['DOCKER_OUTPUT', 'DOCKER_POSTROUTING']) nat('-N', chain);
  nat('-A', 'OUTPUT', '-d', RESOLVER_ADDRESS, '-j', 'DOCKER_OUTPUT');
  nat('-A', 'POSTROUTING', '-d', RESOLVER_ADDRESS, '-j', 'DOCKER_POSTROUTING');
  for (const [protocol, port] of [['udp', server.udpPort], ['tcp', server.tcpPort]] as const) {
    nat('-A', 'DOCKER_OUTPUT', '-d', RESOLVER_ADDRESS, '-p', protocol, '--dport', '53', '-j', 'DNAT', '--to-destination', `${RESOLVER_ADDRESS}:${port}`);
    nat('-A', 'DOCKER_POSTROUTING', '-s', RESOLVER_ADDRESS, '-p', protocol, '--sport', `${port}`, '-j', 'SNAT', '--to-source', ':53');
  }
  return server;
}

/** What was detached before has answered what had come in, and closed. */
export async function drained(): Promise<void> {
  for (let turns = 0; turns < 4; turns++) await new Promise((resolve) => setImmediate(resolve));
}
