/** What each host of a cluster shows of it: for comparing them with each other, and with what was there before. */
import type { CheckAnswer } from '../../agent/ipam-api.ts';
import type { NetworkAnswer, NodeAnswer, StatusAnswer } from '../../agent/api.ts';
import type { Host } from '../lab/host.ts';
import { until } from '../lab/run.ts';
import { control } from '../lab/weft.ts';

/** Nodes, networks and who is on them, as one node has it: one line each, the same on every node when all is well. */
export async function clusterView(host: Host): Promise<string[]> {
  const nodes = await control<NodeAnswer[]>(host, 'GET', 'nodes');
  const networks = await control<NetworkAnswer[]>(host, 'GET', 'networks');
  return [
    ...nodes.map(({ name, state }) => `node ${name} ${state}`),
    ...networks.flatMap(({ name, subnets, vni, endpoints }) => [
      `network ${name} ${subnets.map(({ subnet }) => subnet).join()} ${vni}`,
      ...endpoints.map((endpoint) => `endpoint ${name} ${endpoint.node} ${endpoint.ip} ${endpoint.name} ${endpoint.id.slice(0, 12)}`),
    ]),
  ].sort();
}

/** How many addresses a node has given out. */
export const usedAddresses = async (host: Host): Promise<number> => (await control<StatusAnswer>(host, 'GET', 'status')).pools.reduce((sum, { used }) => sum + used, 0);

export const findings = async (host: Host): Promise<string[]> => (await control<CheckAnswer>(host, 'GET', 'ipam/check')).findings.map(({ text }) => text);

const KERNEL = `
ip -n weft -o link | sed 's/^[0-9]*: //; s/[@:].*//' | sort
ip -o link | sed 's/^[0-9]*: //; s/[@:].*//' | sort
ls /run/netns; ls /etc/netns 2>/dev/null
bridge -n weft fdb | grep ' dst ' | sort
ip -n weft neigh | grep PERMANENT | sort
ip -n weft route; ip route; ip rule
docker ps -a --format '{{.Names}}' | sort
`;

/** What is in a host's kernel of the cluster: links, namespaces, forwarding entries, routes. */
export const kernelView = (host: Host): Promise<string> => host.must(['sh', '-c', KERNEL]);

/**
 * The same, once each host is done with the others. Endpoints of another node may be in its kernel before all that leads to the node itself: the routes to
 * the nodes' own addresses come last.
 */
export const settledKernelViews = (hosts: readonly Host[]): Promise<string[]> => Promise.all(hosts.map((host) => until(`${host.name} has its routes to all nodes`, async () => {
  const view = await kernelView(host);
  return [...view.matchAll(/^10\.255\.\S+ via 10\.255\.\S+ dev weft-in /gm)].length === hosts.length - 1 && view;
})));
