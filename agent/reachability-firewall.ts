/** Which firewall a host has, by what is in its kernel, and the command that opens a port in it. */
import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import type { Nft, NftJson } from '../linux/types.ts';

export const Firewall = v.variant('kind', [
  v.object({ kind: v.literal('ufw') }),
  v.object({ kind: v.literal('firewalld') }),
  /** The chain that incoming packets pass: 'inet filter input'. */
  v.object({ kind: v.literal('nftables'), chain: v.pipe(v.string(), v.regex(/^[\w. -]{1,200}$/)) }),
  /** Its program: `iptables`, or `iptables-legacy` where the rules are of that form. */
  v.object({ kind: v.literal('iptables'), program: v.picklist(['iptables', 'iptables-legacy']) }),
]);
export type Firewall = v.InferOutput<typeof Firewall>;

export interface Opening { protocol: 'tcp' | 'udp'; port: number }

interface Chain { family: string; table: string; name: string; type?: string; hook?: string; policy?: string }

/** Of families that IPv4 passes. */
const FAMILIES = ['ip', 'inet'];
/** What can end a packet's way, or leads to where it may end. iptables' own targets show as `xt`. */
const ENDINGS = ['drop', 'reject', 'jump', 'goto', 'xt'];

/** Of the machine's network namespace that this process is in; the file is absent without the old kernel module. */
function legacyTables(): string {
  try {
    return readFileSync('/proc/net/ip_tables_names', 'utf8');
  } catch {
    return '';
  }
}

/** Those that may drop what comes in, each of which has to let a packet pass. */
export function findFirewalls(nft: Nft, legacy = legacyTables()): Firewall[] {
  const chains = (nft.query('list chains') ?? []).flatMap((each) => (each['chain'] as Chain | undefined) ?? []).filter(({ family }) => FAMILIES.includes(family));
  if (chains.some(({ table }) => table === 'firewalld')) return [{ kind: 'firewalld' }];
  if (chains.some(({ name }) => name === 'ufw-user-input')) return [{ kind: 'ufw' }];
  const found = chains.flatMap((chain): Firewall[] => {
    const { family, table, name } = chain;
    if (chain.type !== 'filter' || chain.hook !== 'input' || table.startsWith('weft')) return [];
    if (chain.policy !== 'drop' && !ends(nft.query(`list chain ${family} ${table} ${name}`) ?? [])) return [];
    // iptables' newer form keeps its rules there.
    return [family === 'ip' && table === 'filter' && name === 'INPUT' ? { kind: 'iptables', program: 'iptables' } : { kind: 'nftables', chain: `${family} ${table} ${name}` }];
  });
  return legacy.split('\n').includes('filter') ? [...found, { kind: 'iptables', program: 'iptables-legacy' }] : found;
}

const ends = (listing: readonly NftJson[]): boolean =>
  listing.some((each) => ((each['rule'] as { expr?: object[] } | undefined)?.expr ?? []).some((statement) => ENDINGS.some((name) => name in statement)));

function command(firewall: Firewall, { protocol, port }: Opening): string {
  switch (firewall.kind) {
    case 'ufw': return `ufw allow ${port}/${protocol}`;
    case 'firewalld': return `firewall-cmd --permanent --add-port=${port}/${protocol} && firewall-cmd --reload`;
    case 'nftables': return `nft insert rule ${firewall.chain} ${protocol} dport ${port} accept`;
    case 'iptables': return `${firewall.program} -I INPUT -p ${protocol} --dport ${port} -j ACCEPT`;
  }
}

/** Their rules are gone at the next boot unless something keeps them. */
const isForgetful = ({ kind }: Firewall): boolean => kind === 'nftables' || kind === 'iptables';

/** What to do about a closed port, in words. `firewalls` undefined: that host could not be asked. */
export function openingAdvice(host: string, firewalls: readonly Firewall[] | undefined, opening: Opening): string {
  if (firewalls === undefined) {
    const [ufw, firewalld, iptables] = ([{ kind: 'ufw' }, { kind: 'firewalld' }, { kind: 'iptables', program: 'iptables' }] as const).map((each) => command(each, opening));
    return `open it on ${host}: with ufw \`${ufw}\`, with firewalld \`${firewalld}\`, else \`${iptables}\``;
  }
  if (firewalls.length === 0) return `no firewall was found on ${host}: look at what is between the two, such as a cloud's security group`;
  const keep = firewalls.some(isForgetful) ? ', and keep the rule for the next boot' : '';
  return `on ${host} run \`${firewalls.map((each) => command(each, opening)).join(' && ')}\`${keep}`;
}
