/**
 * Takes everything of Weft off this host: Docker's copies of networks, kernel objects, changed sysctls, state. Works
 * after a clean stop and after a crash, and again after a purge that was interrupted. The cluster keeps its networks.
 */
import { readdirSync, rmSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { runAll } from '../base/undo.ts';
import { identityDirectory } from '../cluster/identity/files.ts';
import { routeByResolved } from '../dns/host-stub.ts';
import { createBridgeDriver } from '../drivers/bridge/bridge.ts';
import { createIpvlanDriver } from '../drivers/ipvlan/ipvlan.ts';
import { createMacvlanDriver } from '../drivers/macvlan/macvlan.ts';
import { openFabric } from '../drivers/overlay/fabric.ts';
import { releaseAllPorts } from '../ingress/claims.ts';
import { dropScript } from '../ingress/rules.ts';
import { hostNetns } from '../linux/netns.ts';
import { openNft } from '../linux/nft.ts';
import { openRtnl } from '../linux/rtnl.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { inheritedSockets } from '../linux/inherited-sockets.ts';
import { openLocalStore } from '../store/local.ts';
import type { LocalStore } from '../store/store.ts';
import { removeMember } from '../store/supervised-etcd.ts';
import type { Config } from './config.ts';
import { serveDeparting } from './departing.ts';
import { createDockerClient } from './docker/client.ts';
import { PLUGINS, PLUGIN_PREFIX } from './docker/plugins.ts';
import { BRIDGES_PATH, FABRIC_PATH, journalIn, journalled } from './drivers.ts';
import { fencedBy, knownNumber, nodeId, releaseNumber } from './identity.ts';
import { inCluster, memberFolder, type NodeStore, openNodeStore, tlsFiles } from './node-store.ts';
import { findOriginal } from './original.ts';
import { createVerifiedStore } from './verified-store.ts';
import { wireguardKeys } from './wireguard-keys.ts';

async function releaseDocker(config: Config, log: Logger): Promise<void> {
  const docker = createDockerClient({ socketPath: config.dockerSocket, log });
  try {
    await docker.ping();
  } catch {
    log.warn({}, 'Docker does not answer: its list of networks is left as it is');
    return;
  }
  const plugins = await serveDeparting({ config, reason: new Error('Weft is being removed from this host'), inherited: inheritedSockets(), clock: systemClock, log });
  try {
    for (const network of await docker.networks()) {
      if (!network.Driver.startsWith(PLUGIN_PREFIX)) continue;
      const { Containers } = await docker.network(network.Id);
      for (const id of Object.keys(Containers ?? {})) await docker.disconnect(network.Id, id);
      await docker.removeNetwork(network.Id);
    }
  } finally {
    await plugins.close();
    docker.close();
  }
}

/** The node's own keys; its blocks of addresses stay claimed while another of its copies might still use them. */
async function releaseStore(config: Config, local: LocalStore, log: Logger): Promise<void> {
  // What is there under its name is not its own any more, or never was.
  if (fencedBy(local) !== undefined || await findOriginal(local, nodeId(local), config) !== undefined) return removeMember(memberFolder(config), systemClock);
  if (!config.etcd && !inCluster(local)) return;
  const node = openNodeStore({ config, local, tls: tlsFiles(config), clock: systemClock, log });
  const store = createVerifiedStore({ store: node.store, directory: identityDirectory(config.dataDir), clock: systemClock, log });
  try {
    const id = nodeId(local);
    await store.txn([], [{ delete: `nodes/${id}` }]);
    await releaseNumber(store, id, knownNumber(local));
    await releaseAllPorts(store, id);
  } catch (error) {
    log.warn({ detail: errorText(error) }, 'this node could not be taken off the store\'s list of nodes');
  } finally {
    if (node.etcd) await leaveMembers(node, nodeId(local), log);
    await node.close();
  }
}

/** Whatever the others say to it, this host's copy of the store goes. The only member has nobody to leave. */
async function leaveMembers(node: NodeStore, id: string, log: Logger): Promise<void> {
  try {
    const others = (await node.cluster?.members.list() ?? []).filter(({ name }) => name !== id);
    if (others.length > 0) await node.cluster?.members.remove(id);
  } catch (error) {
    log.warn({ detail: errorText(error) }, 'this node stays a member of the store');
  }
  await node.stopMember();
}

/** Returns what could not be done. */
export async function purgeHost(config: Config, configPath: string, log: Logger): Promise<unknown[]> {
  const local = openLocalStore(join(config.dataDir, 'local.db'));
  const journal = journalIn(local);
  const sysctls = journalled(local);
  const { errors } = await runAll([
    () => releaseDocker(config, log),
    () => releaseStore(config, local, log),
    async () => {
      const bridge = createBridgeDriver({ host: hostNetns, path: BRIDGES_PATH, networks: () => [], published: new Map(), journal, log });
      const failed = await bridge.purge();
      bridge.close();
      if (failed.length > 0) throw failed[0];
    },
    ...[createMacvlanDriver, createIpvlanDriver].map((createDriver) => async () => {
      const driver = createDriver({
        host: hostNetns, self: () => ({ id: nodeId(local), name: '' }), networks: () => [], hostAddresses: async () => [], releaseHostAddresses: async () => {}, onCarrier: () => {}, clock: systemClock, log,
      });
      const failed = await driver.purge();
      driver.close();
      if (failed.length > 0) throw failed[0];
    }),
    async () => {
      const fabric = openFabric({
        host: hostNetns, path: FABRIC_PATH, nodePrefix: config.nodePrefix, journal,
        wireguard: { port: config.wireguardPort, keys: wireguardKeys(identityDirectory(config.dataDir), systemClock, log).current, announce: () => {}, clock: systemClock },
      });
      const failed = await fabric.purge();
      fabric.close();
      if (failed.length > 0) throw failed[0];
    },
    () => {
      const nft = openNft(hostNetns);
      nft.run(dropScript);
      nft.close();
    },
    async () => {
      const rtnl = openRtnl(hostNetns);
      for (const { name } of rtnl.links()) if (/^(wc|we)-/.test(name)) await rtnl.deleteLink(name);
      rtnl.close();
    },
    () => routeByResolved({ address: undefined }),
    ...sysctls.map(({ name, before }) => () => writeSysctl(hostNetns, name, before)),
    () => local.close(),
    () => rmSync(config.runDir, { recursive: true, force: true }),
    () => rmSync(configPath, { force: true }),
    () => removeEmpty(dirname(configPath)),
    () => rmSync(config.dataDir, { recursive: true, force: true }),
    ...PLUGINS.map((name) => () => rmSync(join(config.pluginDir, `${name}.sock`), { force: true })),
  ]);
  return errors;
}

function removeEmpty(directory: string): void {
  if (readdirSync(directory).length === 0) rmdirSync(directory);
}
