/** A cluster of all hosts of a lab as the README makes one: `weft up`, `weft token`, `weft join`; three hold its store. */
import type { Lab } from './lab.ts';
import type { Host, Service } from './host.ts';
import { until } from './run.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from './weft.ts';

/** Returns the service of each host. Resolves when the store survives the loss of a host. */
export async function formCluster(lab: Lab): Promise<Map<Host, Service>> {
  const [first, ...others] = lab.hosts as [Host, ...Host[]];
  const services = new Map([[first, await weftUp(first)]]);
  const { token } = await until('a token', () => weftJson<{ token: string }>(first, 'token'), 40_000);
  for (const host of others) services.set(host, await joinHost(host, token));
  if (others.length >= 2) await until('three have a vote', () => isWhole(first), 60_000);
  return services;
}

export async function joinHost(host: Host, token: string): Promise<Service> {
  const { code, stderr } = await weft(host, 'join', token, '--no-start', '--name', host.name);
  if (code !== 0) throw new Error(stderr);
  const service = await startWeftd(host);
  await ready(host);
  return service;
}

/** Whether a host sees all members of a store of three. */
export const isWhole = async (host: Host): Promise<boolean> => /on (h\d+, ){2}h\d+: 1 voter may be lost without effect/.test((await weft(host, 'status')).stdout);
