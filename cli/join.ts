/** `weft join`: an identity from the cluster, and the configuration that goes with it. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_DATA_DIRECTORY, parseConfig, writeConfig, type Config } from '../agent/config.ts';
import { nodeId } from '../agent/identity.ts';
import { rememberCluster } from '../agent/node-store.ts';
import { errorText, weftError } from '../base/errors.ts';
import { familyOf } from '../base/prefix.ts';
import { newKey, requestCertificate } from '../cluster/identity/authority.ts';
import { identityDirectory, writeIdentity } from '../cluster/identity/files.ts';
import { join as joinBy } from '../cluster/identity/join-client.ts';
import { parseToken } from '../cluster/identity/token.ts';
import { openLocalStore } from '../store/local.ts';
import { checkNodePrefix, chooseAdvertised, hostAddresses } from './advertise.ts';
import { checkEtcd, checkStore } from './join-store.ts';
import { storeFiles, type StoreFiles } from './store-files.ts';

export interface JoinOptions extends StoreFiles { advertise?: string; name?: string; tokenFile?: string; /** weftd is started at once, so the store has to accept this host. */ start: boolean }

/** Throws WEFT-JOIN-AGAIN where this host is set up already; nothing is written then, nor when the cluster, or an etcd of the user's, refuses. */
export async function joinCluster(configPath: string, given: string | undefined, options: JoinOptions): Promise<Config> {
  const token = parseToken(given ?? readToken(options.tokenFile));
  if (existsSync(configPath)) throw weftError('WEFT-JOIN-AGAIN', {});
  const advertise = chooseAdvertised(options.advertise, hostAddresses(), familyOf(token.host));
  if (familyOf(advertise) !== familyOf(token.host)) throw weftError('WEFT-UNDERLAY-FAMILY', { node: 'that the token is of', address: token.host, own: advertise });
  const key = await newKey();
  const id = randomBytes(8).toString('hex');
  const answer = await joinBy(token, { request: await requestCertificate(key), id, name: options.name ?? hostname(), address: advertise });
  const { authority, certificate } = answer;
  checkNodePrefix(answer.nodePrefix);
  await checkStore(answer, { authority, certificate, key }, advertise);
  const { endpoints, own } = answer.store;
  const settings = {
    advertise,
    ...(options.name !== undefined && { name: options.name }),
    ...(!own && { etcd: { endpoints, ...storeFiles(options) } }),
    gossipPort: answer.gossipPort, vxlanPort: answer.vxlanPort, nodePrefix: answer.nodePrefix, defaultPools: answer.defaultPools,
  };
  const { etcd } = parseConfig(JSON.stringify(settings), configPath);
  if (etcd && options.start) await checkEtcd(etcd);
  writeIdentity(identityDirectory(DEFAULT_DATA_DIRECTORY), { authority, certificate, key, revoked: answer.revoked });
  const local = openLocalStore(join(DEFAULT_DATA_DIRECTORY, 'local.db'));
  nodeId(local, id);
  if (own) rememberCluster(local, endpoints);
  local.close();
  return writeConfig(configPath, settings);
}

/** By default from the standard input, so that it is in no list of processes. */
function readToken(file = '-'): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw weftError('WEFT-TOKEN-MALFORMED', { detail: errorText(error) });
  }
}
