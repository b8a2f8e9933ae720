/**
 * What such a network stands on: an interface of the host as it is; an 802.1Q sub-interface of one (`eth0.100`), made
 * when it is missing; or, without a parent, a link of its own that loses whatever leaves it.
 */
import { weftError } from '../../base/errors.ts';
import { KernelError, type Link, type LinkSpec, type Rtnl } from '../../linux/types.ts';
import type { Repair } from '../../cnm/driver.ts';
import { MADE_BY_WEFT } from '../names.ts';

const LAST_VLAN = 4094;
/** Links that nobody means: the loopback, Docker's and our own. */
const NO_PARENTS = /^(lo$|docker|br-|veth|weft-|w(c|e|br|[im][hp]?)-)/;

export interface Parents {
  /** What there is of it: a sub-interface's device where that one is to be made. Throws WEFT-PARENT-MISSING, WEFT-PARENT-UNFIT. Touches nothing. */
  check(name: string): Link;
  /** Makes what is missing of it. Throws WEFT-PARENT-MISSING, WEFT-PARENT-VLAN. */
  ensure(name: string, found: Repair[]): Link;
  /** For a network without one. */
  ensureIsolated(name: string, found: Repair[]): Link;
  /** Sub-interfaces that we made, on which nothing stands any more and which nobody is to have. */
  removeUnused(needed: ReadonlySet<string>, found: Repair[]): Promise<void>;
}

/** `eth0.100` is VLAN 100 of eth0, as Docker has it. */
function subInterface(name: string): { device: string; vlan: number } | undefined {
  const match = /^(.+)\.(\d{1,4})$/.exec(name);
  const vlan = Number(match?.[2]);
  return match && vlan >= 1 && vlan <= LAST_VLAN ? { device: match[1]!, vlan } : undefined;
}

export function createParents(host: Rtnl, nodeName: () => string): Parents {
  function missing(name: string): Error {
    const known = host.links().filter((link) => link.master === undefined && !NO_PARENTS.test(link.name)).map((link) => link.name);
    return weftError('WEFT-PARENT-MISSING', { node: nodeName(), parent: name, known: known.join(', ') || 'none' });
  }

  /** The link, or what a sub-interface would be made on. */
  function standing(name: string): Link {
    const link = host.link(name) ?? host.link(subInterface(name)?.device ?? name);
    if (!link) throw missing(name);
    return link;
  }

  function makeSubInterface(name: string, found: Repair[]): Link {
    const wanted = subInterface(name);
    const device = wanted && host.link(wanted.device);
    if (!device) throw missing(name);
    try {
      host.addLink({ kind: 'vlan', name, parent: device.index, vlan: wanted.vlan, group: MADE_BY_WEFT });
    } catch (error) {
      if (error instanceof KernelError && error.code === 'EOPNOTSUPP') throw weftError('WEFT-PARENT-VLAN', { parent: name }, { cause: error });
      throw error;
    }
    found.push({ what: `link ${name} was missing` });
    return host.link(name)!;
  }

  /** The kernel keeps a sub-interface down while its device is, and sets it up with it. */
  function raise(link: Link, found: Repair[]): void {
    if (link.up) return;
    try {
      host.setLink(link.index, { up: true });
      found.push({ what: `link ${link.name} was down` });
    } catch (error) {
      if (!(error instanceof KernelError && error.code === 'ENETDOWN')) throw error;
    }
  }

  return {
    check: (name) => {
      if (name === 'lo') throw weftError('WEFT-PARENT-UNFIT', { parent: name, detail: 'it is the loopback', hint: 'give an interface to a network' });
      const link = standing(name);
      const bridge = link.master === undefined ? undefined : host.link(link.master)?.name;
      if (bridge !== undefined) throw weftError('WEFT-PARENT-UNFIT', { parent: name, detail: `it is a port of ${bridge}`, hint: `give ${bridge} itself as the parent` });
      return link;
    },

    ensure: (name, found) => {
      const link = host.link(name) ?? makeSubInterface(name, found);
      if (link.group === MADE_BY_WEFT) raise(link, found);
      return link;
    },

    ensureIsolated: (name, found) => {
      const present = host.link(name);
      if (!present) {
        makeFirst(host, [{ kind: 'dummy', name }, { kind: 'ifb', name }]);
        found.push({ what: `link ${name} was missing` });
      }
      const link = present ?? host.link(name)!;
      if (!link.up) host.setLink(link.index, { up: true });
      if (present && !present.up) found.push({ what: `link ${name} was down` });
      return link;
    },

    removeUnused: async (needed, found) => {
      const links = host.links();
      const carrying = new Set(links.map(({ parent }) => parent));
      const idle = links.filter(({ name, index, group, kind }) => group === MADE_BY_WEFT && kind === 'vlan' && !needed.has(name) && !carrying.has(index));
      // All in the turn in which they were found idle.
      await Promise.all(idle.map(({ index }) => host.deleteLink(index)));
      for (const { name } of idle) found.push({ what: `link ${name} belonged to nothing` });
    },
  };
}

/** Of kinds that do for the same purpose: not every kernel has all. */
function makeFirst(host: Rtnl, [spec, ...others]: LinkSpec[]): void {
  try {
    host.addLink(spec!);
  } catch (error) {
    if (others.length === 0 || !(error instanceof KernelError && error.code === 'EOPNOTSUPP')) throw error;
    makeFirst(host, others);
  }
}
