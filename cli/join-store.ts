/** Whether a host that is about to join reaches the cluster's store: without it nothing of it would work. */
import type { Config } from '../agent/config.ts';
import { openConfiguredEtcd } from '../agent/configured-store.ts';
import { askNode } from '../agent/reachability-call.ts';
import { openingAdvice } from '../agent/reachability-firewall.ts';
import { tryTcp } from '../agent/reachability-ports.ts';
import { systemClock as clock } from '../base/clock.ts';
import { WeftError, errorText, weftError } from '../base/errors.ts';
import { hostOfUrl } from '../base/ip.ts';
import { silentLogger as log } from '../base/log.ts';
import { clusterAuthority } from '../cluster/identity/credentials.ts';
import type { Credentials } from '../cluster/identity/join-server.ts';
import type { JoinAnswer } from '../cluster/identity/join.ts';

/** Elections and lost packets included. */
const TRY_MS = 5_000;
const ASK_MS = 5_000;

/** One copy that answers is enough. Throws WEFT-JOIN-STORE, with the command for each host's firewall where it says which it has. */
export async function checkStore({ store, gossipPort }: JoinAnswer, identity: Credentials, address: string): Promise<void> {
  const places = store.endpoints.map((endpoint) => {
    const { port, protocol } = new URL(endpoint);
    return { host: hostOfUrl(endpoint), port: Number(port) || (protocol === 'https:' ? 443 : 80) };
  });
  // Whether the store is well is its own affair: that the way is open is what counts here.
  const attempts = await Promise.all(places.map(({ host, port }) => tryTcp(host, port, { clock, timeoutMs: TRY_MS })));
  if (attempts.includes('open')) return;
  const advice = await Promise.all(places.map(async ({ host, port }) => {
    const answer = store.own ? await askNode({ host, port: gossipPort }, identity, { address }, ASK_MS).catch(() => undefined) : undefined;
    return openingAdvice(host, answer?.firewalls, { protocol: 'tcp', port });
  }));
  throw weftError('WEFT-JOIN-STORE', { ports: places.map(({ host, port }) => `TCP ${port} of ${host} is`).join(', '), advice: advice.join('; ') });
}

/** Whether an etcd of the user's accepts this host, and is the cluster's: only its owner knows what it asks for. Throws WEFT-JOIN-ETCD. */
export async function checkEtcd(etcd: NonNullable<Config['etcd']>): Promise<void> {
  const store = openConfiguredEtcd(etcd, { clock, log });
  try {
    await clusterAuthority(store);
  } catch (error) {
    const detail = error instanceof WeftError ? error.parameters['detail'] : undefined;
    throw weftError('WEFT-JOIN-ETCD', { endpoints: etcd.endpoints.join(', '), detail: detail ?? errorText(error) }, { cause: error });
  } finally {
    await store.close();
  }
}
