/**
 * A host whose disk was copied is the same node twice. Which of the two is the copy shows where it is: it is not at the
 * address where the node was, and somebody is there who holds the node's key.
 */
import { networkInterfaces } from 'node:os';
import { nodeOf } from '../cluster/identity/authority.ts';
import { identityDirectory, readIdentity } from '../cluster/identity/files.ts';
import type { LocalStore } from '../store/store.ts';
import type { Config } from './config.ts';

/** Where this node was when it ran last. */
const PLACE = 'node/address';
const PROBE_MS = 3_000;

const addressesHere = (): string[] => Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address));

export const lastAddress = (local: LocalStore): string | undefined => local.get(PLACE);

export const rememberAddress = (local: LocalStore, address: string): void => {
  if (local.get(PLACE) !== address) local.put(PLACE, address);
};

/** Addresses that this node is known at, and that are not this host's. */
export const formerAddresses = (local: LocalStore, { advertise }: Config, here: readonly string[] = addressesHere()): string[] =>
  [...new Set([local.get(PLACE) ?? advertise, advertise])].filter((address) => !here.includes(address));

/** The address at which this very node answers, on another host. */
export async function findOriginal(local: LocalStore, id: string, config: Config): Promise<string | undefined> {
  const authority = readIdentity(identityDirectory(config.dataDir))?.authority;
  if (authority === undefined) return undefined;
  for (const address of formerAddresses(local, config)) {
    if (await nodeAt(address, config.gossipPort, authority) === id) return address;
  }
  return undefined;
}

/** Its certificate says who it is, and only who has the key can show it. */
async function nodeAt(host: string, port: number, authority: string): Promise<string | undefined> {
  const { connect } = await import('node:tls');
  return new Promise((resolve) => {
    const socket = connect({ host, port, ca: authority, minVersion: 'TLSv1.3', checkServerIdentity: () => undefined });
    const finish = (id?: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(id);
    };
    const timer = setTimeout(finish, PROBE_MS);
    socket.on('error', () => finish());
    socket.on('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      finish(certificate && nodeOf(certificate));
    });
  });
}
