/** `weft join`: an identity from the cluster, and the configuration that goes with it. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_DATA_DIRECTORY, writeConfig, type Config } from '../agent/config.ts';
import { nodeId } from '../agent/identity.ts';
import { rememberCluster } from '../agent/node-store.ts';
import { errorText, weftError } from '../base/errors.ts';
import { newKey, requestCertificate } from '../cluster/identity/authority.ts';
import { identityDirectory, identityFiles, writeIdentity } from '../cluster/identity/files.ts';
import { join as joinBy } from '../cluster/identity/join-client.ts';
import { parseToken } from '../cluster/identity/token.ts';
import { openLocalStore } from '../store/local.ts';
import { checkNodePrefix, chooseAdvertised, hostAddresses } from './advertise.ts';
import { checkStore } from './join-store.ts';

export interface JoinOptions { advertise?: string; name?: string; tokenFile?: string }

/** Throws WEFT-JOIN-AGAIN where this host is set up already; nothing is written then, nor when the cluster refuses. */
export async function joinCluster(configPath: string, given: string | undefined, options: JoinOptions): Promise<Config> {
  const token = parseToken(given ?? readToken(options.tokenFile));
  if (existsSync(configPath)) throw weftError('WEFT-JOIN-AGAIN', {});
  const advertise = chooseAdvertised(options.advertise, hostAddresses());
  const key = await newKey();
  const id = randomBytes(8).toString('hex');
  const answer = await joinBy(token, { request: await requestCertificate(key), id, name: options.name ?? hostname(), address: advertise });
  const { authority, certificate } = answer;
  checkNodePrefix(answer.nodePrefix);
  await checkStore(answer, { authority, certificate, key }, advertise);
  const directory = identityDirectory(DEFAULT_DATA_DIRECTORY);
  writeIdentity(directory, { authority, certificate, key, revoked: answer.revoked });
  const files = identityFiles(directory);
  const { endpoints, own } = answer.store;
  const local = openLocalStore(join(DEFAULT_DATA_DIRECTORY, 'local.db'));
  nodeId(local, id);
  if (own) rememberCluster(local, endpoints);
  local.close();
  return writeConfig(configPath, {
    advertise,
    ...(options.name !== undefined && { name: options.name }),
    ...(!own && { etcd: { endpoints, ...(endpoints.some((url) => url.startsWith('https:')) && { ca: files.authority, cert: files.node, key: files.node }) } }),
    gossipPort: answer.gossipPort, vxlanPort: answer.vxlanPort, nodePrefix: answer.nodePrefix, defaultPools: answer.defaultPools,
  });
}

/** By default from the standard input, so that it is in no list of processes. */
function readToken(file = '-'): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw weftError('WEFT-TOKEN-MALFORMED', { detail: errorText(error) });
  }
}
