/** Which versions of the protocol a member speaks, and whether members fit together (memberlist's rule). */

/** Minimum, maximum and current version of the protocol, and the same of what it carries (the delegate's). */
export type Versions = readonly [pmin: number, pmax: number, pcur: number, dmin: number, dmax: number, dcur: number];

/** memberlist's protocols 1 to 5, speaking 2; nothing is asked of what it carries. */
export const OWN_VERSIONS: Versions = [1, 5, 2, 0, 0, 0];

/** From which maximum on a peer understands what. */
export const streamPings = (versions: Versions): boolean => versions[1] >= 3;
export const nacks = (versions: Versions): boolean => versions[1] >= 4;
export const checksums = (versions: Versions): boolean => versions[1] >= 5;

export const isSane = ([pmin, pmax]: Versions): boolean => pmin > 0 && pmax > 0 && pmin <= pmax;

/** Throws an Error that names the first member whose current versions are outside what all the others speak. */
export function checkVersions(members: readonly { name: string; versions: Versions }[]): void {
  for (const [what, min, max, current] of [['protocol', 0, 1, 2], ['delegate protocol', 3, 4, 5]] as const) {
    const lowest = Math.max(...members.map(({ versions }) => versions[min]));
    const highest = Math.min(...members.map(({ versions }) => versions[max]));
    const misfit = members.find(({ versions }) => versions[current] < lowest || versions[current] > highest);
    if (misfit) throw new Error(`${what} version ${misfit.versions[current]} of member ${misfit.name} does not fit: all others speak ${lowest} to ${highest}`);
  }
}
