/** `weft network`: networks, and who is on them. */
import type { Command } from 'commander';
import type { ConnectRequest, CreateNetworkRequest, NetworkAnswer, PruneAnswer } from '../agent/api.ts';
import { collect, defined, pairs } from './options.ts';
import { table } from './table.ts';

export interface NetworkCommandOptions {
  ask<T>(method: string, path: string, body?: object): Promise<T>;
  show<T>(answer: T, text: (answer: T) => string): void;
}

const networkTable = (networks: NetworkAnswer[]): string =>
  table(['ID', 'NAME', 'DRIVER', 'SCOPE', 'SUBNET', 'ENDPOINTS'], networks.map((network) => [
    network.id.slice(0, 12), network.name || '(unnamed)', network.driver, network.scope, network.subnets.map(({ subnet }) => subnet).join(', '), network.endpoints.length,
  ]));

const pruneText = ({ unused, kept }: PruneAnswer, removed: boolean): string => [
  ...unused.map(({ name, subnets }) => (removed ? name : `${name} (${subnets.join(', ')}) has no endpoints on any host`)),
  ...kept.map(({ name, why }) => `${name} is kept: ${why}`),
  ...(removed ? [] : [unused.length === 0 ? 'there is nothing to remove' : 'To remove them on all hosts: weft network prune --yes']),
].join('\n');

export function addNetworkCommands(program: Command, { ask, show }: NetworkCommandOptions): void {
  const network = program.command('network').description('networks');

  network.command('ls').description('networks of the cluster and of this node').action(async () => {
    show(await ask<NetworkAnswer[]>('GET', 'networks'), networkTable);
  });

  network.command('create <name>')
    .description('create a network; an overlay appears on every node, and so does a macvlan or ipvlan with a parent')
    .option('-d, --driver <driver>', 'overlay (all hosts), bridge (this host), macvlan or ipvlan (the hosts\' LAN)', 'overlay')
    .option('--subnet <prefix>', 'for example 10.192.4.0/24 or fd00:4::/64; may be repeated (default: a free one)', collect)
    .option('--ipv6', 'addresses of IPv6, too; without a subnet for it a free /64')
    .option('--no-ipv4', 'no addresses of IPv4, unless a subnet of it is given')
    .option('--gateway <address>', 'one for each subnet; may be repeated (default: its first address)', collect)
    .option('--ip-range <prefix>', 'hand out addresses of this part of a subnet only; may be repeated', collect)
    .option('--aux-address <name=address>', 'an address that is never handed out; may be repeated', collect)
    .option('--internal', 'no way out, and no published ports')
    .option('-o, --opt <key=value>', 'driver option; may be repeated', collect)
    .option('--label <key=value>', 'label, copied to all hosts; may be repeated', collect)
    .action(async (name: string, options: { driver: string; subnet?: string[]; ipv4: boolean; ipv6?: boolean; gateway?: string[]; ipRange?: string[]; auxAddress?: string[]; internal?: boolean; opt?: string[]; label?: string[] }) => {
      const request = defined({
        name, driver: options.driver, subnets: options.subnet, gateways: options.gateway, ranges: options.ipRange, ipv4: options.ipv4 ? undefined : false, ipv6: options.ipv6, internal: options.internal,
        aux: pairs(options.auxAddress), options: pairs(options.opt), labels: pairs(options.label),
      }) as CreateNetworkRequest;
      show(await ask<NetworkAnswer>('POST', 'networks', request), (answer) => answer.id);
    });

  network.command('rm <network...>').description('remove networks that nobody is on; overlays on all hosts').action(async (references: string[]) => {
    for (const reference of references) {
      await ask('DELETE', `networks/${encodeURIComponent(reference)}`);
      show({ removed: reference }, () => reference);
    }
  });

  network.command('inspect <network>').description('all that is known of a network, as JSON').action(async (reference: string) => {
    const answer = await ask<NetworkAnswer>('GET', `networks/${encodeURIComponent(reference)}`);
    console.log(JSON.stringify(answer, undefined, 2));
  });

  network.command('connect <network> <name>')
    .description('put a container or a sandbox of this host on a network')
    .option('--ip <address>', 'its IPv4 address (default: a free one)')
    .option('--ip6 <address>', 'its IPv6 address (default: a free one)')
    .option('--alias <name>', 'a further name on this network; may be repeated', collect)
    .action(async (reference: string, name: string, { ip, ip6, alias }: { ip?: string; ip6?: string; alias?: string[] }) => {
      const request = defined({ name, address: ip, addressIpv6: ip6, aliases: alias }) as ConnectRequest;
      await ask('POST', `connections/${encodeURIComponent(reference)}`, request);
      show({ connected: name, network: reference }, () => name);
    });

  network.command('disconnect <network> <name>')
    .description('take a container or a sandbox of this host off a network')
    .action(async (reference: string, name: string) => {
      await ask('DELETE', `connections/${encodeURIComponent(reference)}`, { name });
      show({ disconnected: name, network: reference }, () => name);
    });

  network.command('prune')
    .description('remove the networks on which no host has a container or sandbox')
    .option('--yes', 'do it; without this it is only said what would be removed')
    .action(async ({ yes = false }: { yes?: boolean }) => {
      show(await ask<PruneAnswer>(yes ? 'DELETE' : 'GET', 'unused-networks'), (answer) => pruneText(answer, yes));
    });
}
