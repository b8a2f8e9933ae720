/**
 *   router
 *     |
 *    h1 10.99.1.1, weftd, no Docker
 *
 * The plugin sockets of a real weftd, asked by the conformance kit as dockerd asks on a bad day.
 */
import { resolve } from 'node:path';
import tap, { test } from 'tap';
import type { NetworkAnswer, PsAnswer } from '../agent/api.ts';
import type { Report } from '../plugin-spec/conformance/conformance.ts';
import { hostNetns } from '../linux/netns.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { createPluginClient } from '../plugin-spec/plugin-client.ts';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { run, until } from './lab/run.ts';
import { control, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

/** As this machine sees the host's files. */
const socketOf = (host: Host, plugin: string): string => `/proc/${host.pid}/root/run/docker/plugins/${plugin}.sock`;
const KIT = resolve(import.meta.dirname, '../plugin-spec/conformance/main.ts');

test('the plugin sockets of weftd keep Docker\'s rules', async (t) => {
  const lab = await createLab({ name: 'conform', hosts: 1 });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  const rtnl = openRtnl(hostNetns);
  const onlyWhere: readonly (readonly [string, number])[] = rtnl.hasLinkKind('ipvlan') ? [['weft-ipvlan', 25]] : [];
  rtnl.close();
  for (const [i, [plugin, fewest]] of ([['weft-overlay', 25], ['weft-bridge', 25], ['weft-macvlan', 25], ['weft', 15], ...onlyWhere] as const).entries()) {
    const { code, stdout, stderr } = await run([process.execPath, KIT, socketOf(host, plugin), '--json', '--subnet', `10.${211 + i}.0.0/16`]);
    const { results, leftovers } = JSON.parse(stdout || '{"results":[],"leftovers":[]}') as Report;
    t.ok(results.filter(({ status }) => status === 'ok').length >= fewest, `${results.length} checks of ${plugin} ${stderr}`);
    for (const { name, status, detail } of results) t.ok(status === 'ok' || status === 'skipped', `${plugin}: ${name} ${detail}`, { detail });
    t.same(leftovers, [], `${plugin}: all could be given back`);
    t.equal(code, 0, `${plugin}: exit status`);
  }
});

test('a network that Docker deletes takes along what Docker forgot, and not what it never knew', async (t) => {
  const lab = await createLab({ name: 'forgot', hosts: 1 });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await weftUp(host);
  const plugin = (name: string) => {
    const client = createPluginClient(socketOf(host, name));
    t.teardown(() => client.close());
    return async (call: string, body: object): Promise<Record<string, string>> => JSON.parse((await client.post(call, JSON.stringify(body))).text) as Record<string, string>;
  };
  const [overlay, bridge, ipam] = ['weft-overlay', 'weft-bridge', 'weft'].map(plugin) as [ReturnType<typeof plugin>, ReturnType<typeof plugin>, ReturnType<typeof plugin>];
  const networks = async (): Promise<string[]> => (await control<NetworkAnswer[]>(host, 'GET', 'networks')).map(({ id }) => id);
  const network = (NetworkID: string, AddressSpace: string, Pool: string, Gateway: string) => ({ NetworkID, Options: {}, IPv4Data: [{ AddressSpace, Pool, Gateway }], IPv6Data: [] });
  const [onOverlay, onBridge] = ['a'.repeat(64), 'b'.repeat(64)] as const;

  t.same(await overlay('NetworkDriver.CreateNetwork', network(onOverlay, 'LocalDefault', '10.70.0.0/24', '10.70.0.1/24')), {});
  const there = { NetworkID: onOverlay, EndpointID: 'c'.repeat(64) };
  t.notOk((await overlay('NetworkDriver.CreateEndpoint', { ...there, Interface: { Address: '10.70.0.9/24' } })).Err);
  t.notOk((await overlay('NetworkDriver.Join', { ...there, SandboxKey: '/run/docker/netns/c' })).Err);
  t.same(await overlay('NetworkDriver.DeleteNetwork', { NetworkID: onOverlay }), {});
  t.same((await control<PsAnswer>(host, 'GET', 'ps')).endpoints, []);
  await until('the cluster has it no more', async () => (await networks()).length === 0, 10_000);

  const { PoolID } = await ipam('IpamDriver.RequestPool', { AddressSpace: 'weft', Pool: '10.71.0.0/24' });
  t.same(await bridge('NetworkDriver.CreateNetwork', network(onBridge, 'weft', '10.71.0.0/24', '10.71.0.1/24')), {});
  const { Address } = await ipam('IpamDriver.RequestAddress', { PoolID, Address: '' });
  t.notOk((await bridge('NetworkDriver.CreateEndpoint', { NetworkID: onBridge, EndpointID: 'd'.repeat(64), Interface: { Address } })).Err);
  await control(host, 'POST', 'sandboxes', { name: 'mine', network: onBridge });
  t.match((await bridge('NetworkDriver.DeleteNetwork', { NetworkID: onBridge })).Err, /WEFT-NETWORK-BUSY.*: mine on h1;/);
  t.same((await control<PsAnswer>(host, 'GET', 'ps')).endpoints.map(({ name }) => name), ['mine']);
  t.same(await networks(), [onBridge], 'the sandbox has its network');
  await control(host, 'DELETE', 'sandboxes/mine');
  t.same(await bridge('NetworkDriver.DeleteNetwork', { NetworkID: onBridge }), {});
  t.same(await networks(), []);
});
