/** `weft sandbox`: network namespaces on Weft networks without Docker. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { WeftError, weftError } from '../base/errors.ts';
import { withUndo } from '../base/undo.ts';
import type { Controller, Endpoints } from '../cnm/controller.ts';
import type { Endpoint, Network, PortMapping, Protocol } from '../cnm/model.ts';
import { plug, type SandboxKernel } from '../cnm/sandbox.ts';
import { createNetns, deleteNetns, isNetns } from '../linux/netns.ts';
import type { LocalStore } from '../store/store.ts';
import type { AddSandboxRequest, SandboxAnswer } from './api.ts';
import type { NetworkRegistry } from './networks.ts';
import type { Publisher } from './publisher.ts';

interface Sandbox { name: string; netns: string; made: boolean; endpoints: string[] }

export interface SandboxCommands {
  add(request: AddSandboxRequest): Promise<SandboxAnswer>;
  remove(name: string): Promise<void>;
  has(name: string): boolean;
  /** Off one of its networks. Throws WEFT-NOT-CONNECTED. */
  disconnect(name: string, network: Network): Promise<void>;
  isNative(endpointId: string): boolean;
}

export interface SandboxCommandsOptions {
  local: LocalStore;
  registry: NetworkRegistry;
  controller: Controller;
  endpoints: Endpoints;
  publisher: Publisher;
  kernel: SandboxKernel;
  /** Where programs in sandboxes ask for names. */
  nameServer: string;
  publish(endpoint: Endpoint, service: string): Promise<void>;
  revoke(endpointId: string): Promise<void>;
}

export function createSandboxCommands(options: SandboxCommandsOptions): SandboxCommands {
  const { local, registry, controller, publisher } = options;
  const read = (name: string): Sandbox | undefined => {
    const text = local.get(`sandboxes/${name}`);
    return text === undefined ? undefined : (JSON.parse(text) as Sandbox);
  };
  const write = (sandbox: Sandbox): void => local.put(`sandboxes/${sandbox.name}`, JSON.stringify(sandbox));

  const networkOf = (reference: string): Network => {
    const network = registry.find(reference);
    if (!network) throw weftError('WEFT-NETWORK-UNKNOWN', { network: reference });
    return network;
  };

  async function detach(endpointId: string): Promise<void> {
    await options.revoke(endpointId);
    await controller.deleteEndpoint(endpointId);
  }

  return {
    has: (name) => read(name) !== undefined,
    isNative: (endpointId) => local.list('sandboxes/').some(({ value }) => (JSON.parse(value) as Sandbox).endpoints.includes(endpointId)),

    add: (request) => withUndo(async (undo) => {
      const network = networkOf(request.network);
      if (network.scope === 'node' && network.ipam === 'docker') {
        throw weftError('WEFT-FEATURE-MISSING', { feature: `a sandbox on ${network.name}, whose addresses Docker hands out,`, hint: 'create the network with --ipam-driver weft' });
      }
      const ports = (request.ports ?? []).map(parsePort);
      const before = read(request.name);
      // One whose making was killed half way is made anew.
      const known = before && (isNetns(before.netns) || before.endpoints.some((id) => options.endpoints.get(id))) ? before : undefined;
      const netns = request.netns ?? known?.netns ?? `/run/netns/${request.name}`;
      if (known && (known.netns !== netns || known.endpoints.some((id) => options.endpoints.get(id)?.networkId === network.id))) throw weftError('WEFT-SANDBOX-EXISTS', { name: request.name });
      const made = known?.made ?? request.netns === undefined;
      if (!known && made && isNetns(netns)) throw weftError('WEFT-SANDBOX-EXISTS', { name: request.name });
      const endpointId = randomBytes(32).toString('hex');
      // First of all: whatever is left by a kill from here on, `weft sandbox rm` removes.
      write({ name: request.name, netns, made, endpoints: [...known?.endpoints ?? [], endpointId] });
      undo.push(() => (known ? write(known) : local.delete(`sandboxes/${request.name}`)));
      if (!known && made) {
        undo.push(() => deleteNetns(netns));
        createNetns(netns).close();
        // `ip netns exec` puts this file in place of the host's.
        undo.push(() => rmSync(`/etc/netns/${request.name}`, { recursive: true, force: true }));
        mkdirSync(`/etc/netns/${request.name}`, { recursive: true });
        writeFileSync(`/etc/netns/${request.name}/resolv.conf`, `nameserver ${options.nameServer}\n`);
      }
      if (!isNetns(netns)) throw weftError('WEFT-SANDBOX-GONE', { path: netns });
      const endpoint = await controller.createEndpoint({ networkId: network.id, id: endpointId, ...(request.address !== undefined && { address: request.address }), ...(request.addressIpv6 !== undefined && { addressIpv6: request.addressIpv6 }), ports });
      undo.push(() => controller.deleteEndpoint(endpointId));
      const answer = await controller.join(endpointId, netns);
      publisher.workload({
        endpointId, name: request.name, names: [request.name, ...request.aliases ?? []], service: request.service ?? request.name,
        ...(ports.length > 0 && { ports: ports.map(({ protocol, containerPort }) => `${protocol}/${containerPort}`) }),
      });
      const device = await plug(options.kernel, { ...endpoint, sandbox: netns }, answer);
      undo.push(() => options.revoke(endpointId));
      if (ports.length > 0) await options.publish(endpoint, request.service ?? request.name);
      return { name: request.name, netns, network: network.name, address: endpoint.address, addressIpv6: endpoint.addressIpv6, interface: device };
    }),

    disconnect: async (name, network) => {
      const sandbox = read(name);
      if (!sandbox) throw weftError('WEFT-SANDBOX-UNKNOWN', { name });
      const endpointId = sandbox.endpoints.find((id) => options.endpoints.get(id)?.networkId === network.id);
      if (endpointId === undefined) throw weftError('WEFT-NOT-CONNECTED', { name, network: network.name });
      await detach(endpointId);
      write({ ...sandbox, endpoints: sandbox.endpoints.filter((id) => id !== endpointId) });
    },

    remove: async (name) => {
      const sandbox = read(name);
      if (!sandbox) throw weftError('WEFT-SANDBOX-UNKNOWN', { name });
      for (const endpointId of sandbox.endpoints) await detach(endpointId);
      if (sandbox.made) {
        deleteNetns(sandbox.netns);
        rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
      }
      local.delete(`sandboxes/${name}`);
    },
  };
}

/** '[[hostAddress:]hostPort[-last]:]containerPort[/protocol]', an IPv6 address in brackets. */
export function parsePort(text: string): PortMapping {
  const match = /^(?:(?:([\d.]+|\[[\da-fA-F:.]+\]):)?(?:(\d{1,5})(?:-(\d{1,5}))?)?:)?(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(text);
  const [, address = '', first = '0', last = first, container, protocol = 'tcp'] = match ?? [];
  const hostIp = address.replaceAll(/[[\]]/g, '');
  const [hostPort, hostPortEnd, containerPort] = [Number(first), Number(last), Number(container)];
  if (!match || hostPortEnd > 65535 || hostPortEnd < hostPort || containerPort > 65535 || containerPort === 0 || (hostIp !== '' && isIP(hostIp) === 0)) {
    throw new WeftError('WEFT-INPUT-MALFORMED', { what: `the port ${text}`, detail: 'give it as [[hostAddress:]hostPort[-last]:]containerPort[/tcp, /udp or /sctp]' });
  }
  return { protocol: protocol as Protocol, containerPort, hostPort, ...(hostPortEnd > hostPort && { hostPortEnd }), hostIp };
}
