/** The host's routes to endpoints on other nodes, those of all networks in one table, compared with the kernel. */
import { withoutLength } from '../../base/ip.ts';
import type { Route, Rtnl } from '../../linux/types.ts';
import { destinationKey, routeKey } from '../ensure.ts';
import type { Comparison } from './comparisons.ts';
import { REMOTE_TABLE } from './routed-tunnel.ts';
import type { Way, Ways } from './ways.ts';

export interface RemoteRoutes {
  rtnl: Rtnl;
  /** By network. */
  programmed: ReadonlyMap<string, Ways>;
  routesOf(ip: string, way: Way): Route[];
  /** Whether `programmed` has all networks: what is wanted by one of which nothing has been read yet looks stale. */
  isComplete(): boolean;
}

/** Returns whether stale ones were looked for. */
export async function compareRoutes({ rtnl, programmed, routesOf, isComplete }: RemoteRoutes, comparison: Comparison): Promise<boolean> {
  const present = await rtnl.large.routes({ table: REMOTE_TABLE });
  const byDestination = await comparison.index(present, destinationKey);
  /** Destinations of those that are as they should be: few are left to be looked for in each network. */
  const right = new Set<string>();
  const isRight = (route: Route): boolean => {
    const destination = destinationKey(route);
    const there = byDestination.get(destination);
    if (!there || routeKey(there) !== routeKey(route)) return false;
    right.add(destination);
    return true;
  };
  for (const ways of programmed.values()) {
    await comparison.inPieces(ways.entries(), (entries) => {
      const missing = entries.flatMap(([ip, way]) => routesOf(ip, way)).filter((route) => !isRight(route));
      for (const { dst } of missing) comparison.note('routes were missing', withoutLength(dst), dst);
      if (missing.length > 0) rtnl.replaceRoutes(missing);
    });
  }
  if (!isComplete()) return false;
  const wantedFor = (ip: string): Route | undefined => {
    for (const ways of programmed.values()) {
      const way = ways.get(ip);
      const [route] = way ? routesOf(ip, way) : [];
      if (route) return route;
    }
    return undefined;
  };
  await comparison.inPieces(present, (routes) => {
    const stale = routes.filter((route) => {
      if (right.has(destinationKey(route))) return false;
      const wanted = wantedFor(withoutLength(route.dst));
      // A destination that is wanted otherwise has been replaced.
      return !wanted || destinationKey(wanted) !== destinationKey(route);
    });
    for (const { dst } of stale) comparison.note('routes were stale', withoutLength(dst), dst);
    if (stale.length > 0) rtnl.deleteRoutes(stale);
  });
  return true;
}
