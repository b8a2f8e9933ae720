/** Answers of weftd as text for people. */
import type { NodeAnswer, PsAnswer, StatusAnswer } from '../agent/api.ts';
import { hostPort } from '../base/ip.ts';
import { table } from './table.ts';

/** Names, as long as they fit on a line. */
const NAMED = 4;
const some = (names: readonly string[]): string =>
  (names.length <= NAMED + 1 ? names.join(', ') : `${names.slice(0, NAMED).join(', ')} and ${names.length - NAMED} more`);

/** An etcd of the user's may be reached without TLS. */
const encryptedBesides = (store: string): string =>
  (store.includes('http://') ? 'gossip is encrypted, what is said to the store is not' : 'gossip and the store are encrypted');

const short = (id: string): string => id.slice(0, 12);

export function statusText(status: StatusAnswer): string {
  const { node, store, docker, counts } = status;
  return [
    `node     ${node.name} (${node.id}), number ${node.number}, reached at ${node.vtep}`,
    `store    ${store.description}${store.healthy ? '' : ': does not answer'}`,
    ...(store.degraded === undefined ? [] : [`         ${store.degraded}`]),
    ...(store.quorum === undefined ? [] : [`         ${store.quorum}`]),
    `docker   ${docker.up ? `answers (${docker.version ?? 'version unknown'})` : 'does not answer'}`,
    `holds    ${counts.networks} networks, ${counts.endpoints} endpoints, names in ${counts.sandboxesWithNames} sandboxes`,
    ...(status.cleartext.length === 0 ? [] : [`wire     data of ${some(status.cleartext)} crosses the underlay in the clear: who can listen there can read it; ${encryptedBesides(store.description)}`]),
    '',
    table(['NODE', 'ID', 'ADDRESS', 'STATE'], status.members.map((member) => [member.name, member.id, member.address, member.state])),
    ...(status.pools.length > 0 ? ['', table(['POOL', 'BLOCKS HERE', 'USED', 'FREE'], status.pools.map((pool) => [pool.subnet, pool.blocks, pool.used, pool.free]))] : []),
    ...(status.problems.length > 0 ? ['', ...status.problems.map((problem) => `! ${problem}`)] : []),
    ...(status.repairs.length > 0 ? ['', 'repaired lately:', ...status.repairs.map((repair) => `  ${repair.at}  ${repair.what}${repair.error ? ` (failed: ${repair.error})` : ''}`)] : []),
  ].join('\n');
}

export const nodeTable = (nodes: NodeAnswer[]): string =>
  table(['NUMBER', 'NAME', 'ID', 'ADDRESS', 'STATE'], nodes.map((node) => [node.number, node.name, node.id, node.address, `${node.state}${node.self ? ' (this one)' : ''}`]));

export const psText = (ps: PsAnswer): string => [
  table(['ENDPOINT', 'NAME', 'SERVICE', 'NETWORK', 'ADDRESS', 'STATE'], ps.endpoints.map((endpoint) => [
    short(endpoint.id), endpoint.name, endpoint.service, endpoint.network, [endpoint.address, endpoint.addressIpv6].filter((each) => each !== undefined).join(', '), endpoint.joined ? 'joined' : 'created',
  ])),
  '',
  table(['PORT', 'SERVICE', 'MODE', 'BACKENDS', 'LEFT OUT ON'], ps.ports.map((port) => [
    `${port.hostIp === '' ? port.port : hostPort(port.hostIp, port.port)}/${port.protocol}`, port.service, port.mode,
    port.backends.map((backend) => `${[backend.ip, backend.ip6].flatMap((ip) => (ip === undefined ? [] : [hostPort(ip, backend.port)])).join(' ')} (${backend.node})`).join(', '),
    port.skippedOn.length === 0 ? '' : `${port.skippedOn.join(', ')} (in use there)`,
  ])),
].join('\n');
