/** `weft dns`: the operator's own records; who answers a name, and how; the log of queries; names for programs of the host. */
import type { Command } from 'commander';
import type { AddDnsRecordRequest, DnsLookupRequest, DnsRecordAnswer, DnsRecordRequest, HostDnsAnswer, QueryLogAnswer } from '../agent/api.ts';
import { changeConfig, readRawConfig } from '../agent/config.ts';
import { weftError } from '../base/errors.ts';
import type { NameTrace } from '../dns/dns.ts';
import type { Origin } from '../dns/origin.ts';
import { defined } from './options.ts';
import { table } from './table.ts';

export interface DnsCommandOptions {
  ask<T>(method: string, path: string, body?: object): Promise<T>;
  show<T>(answer: T, text: (answer: T) => string): void;
  /** Path of weftd's configuration. */
  config(): string;
}

const recordTable = (records: DnsRecordAnswer[]): string =>
  table(['NAME', 'TYPE', 'VALUE', 'TTL', 'NETWORK'], records.map(({ name, type, value, ttl, network }) => [name, type, value, ttl, network ?? '(all)']));

const recordText = ({ name, type, value, network }: DnsRecordAnswer): string => `${name} ${type} ${value}${network === undefined ? '' : ` on ${network}`}`;

const SOURCES: Readonly<Record<Origin, string>> = { records: 'records of your own', containers: 'names of containers', cache: 'the cache', docker: 'Docker\'s resolver', upstreams: 'name servers' };
const took = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : `${ms.toFixed(ms < 1 ? 3 : 1)} ms`);

const traceText = ({ name, type, rcode, answers, from, ms, steps }: NameTrace): string => [
  `${name} ${type}: ${rcode}${answers.length === 0 && rcode === 'NOERROR' ? ', without records' : ''}${from === undefined ? '' : `, from ${SOURCES[from]}`}, in ${took(ms)!}`,
  ...answers.map((answer) => `  ${answer}`),
  '',
  table(['SOURCE', 'TOOK', 'SAID'], steps.map((step) => [SOURCES[step.source], took(step.ms), step.detail])),
].join('\n');

const logText = ({ all, containers }: QueryLogAnswer): string =>
  (all ? 'queries of all containers are logged' : containers.length === 0 ? 'no queries are logged' : `queries of ${containers.join(', ')} are logged`);

const hostText = ({ address, resolved }: HostDnsAnswer): string => (address === undefined
  ? 'programs of this host are not answered'
  : `programs of this host ask for NAME.NETWORK.weft at ${address}${resolved ? ', and systemd-resolved does it for them' : ': point a resolver of this host there'}`);

/** For weftd's next start; everything else stays as it was. */
function keepHost(path: string, on: boolean, address: string | undefined): void {
  const { host: _, ...before } = (readRawConfig(path)['dns'] ?? {}) as Record<string, unknown>;
  const dns = { ...before, ...(on && { host: address ?? true }) };
  changeConfig(path, { dns: Object.keys(dns).length > 0 ? dns : undefined });
}

function seconds(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw weftError('WEFT-RECORD-MALFORMED', { what: `the TTL ${text}`, detail: 'it is no number of seconds', hint: 'write it as 60' });
  return Number(text);
}

export function addDnsCommands(program: Command, { ask, show, config }: DnsCommandOptions): void {
  const dns = program.command('dns').description('names of your own');

  dns.command('add <name> <type> <value...>')
    .description('answer a name in containers: A, AAAA, CNAME, SRV ("priority weight port target") or TXT; *.app.test covers all names below it')
    .option('--network <network>', 'for those on this network only (default: on all)')
    .option('--ttl <seconds>', 'how long clients may keep it', seconds)
    .action(async (name: string, type: string, value: string[], { network, ttl }: { network?: string; ttl?: number }) => {
      const request = defined({ name, type, value: value.join(' '), network, ttl }) as AddDnsRecordRequest;
      show(await ask<DnsRecordAnswer[]>('POST', 'dns-records', request), (all) => all.map(recordText).join('\n'));
    });

  dns.command('rm <name> [type] [value...]')
    .description('remove a record, all of a type, or all that a name has')
    .option('--network <network>', 'of this network (default: those for all networks)')
    .action(async (name: string, type: string | undefined, value: string[], { network }: { network?: string }) => {
      const request = defined({ name, type, value: value.length > 0 ? value.join(' ') : undefined, network }) as DnsRecordRequest;
      show(await ask<DnsRecordAnswer[]>('DELETE', 'dns-records', request), (removed) => removed.map(recordText).join('\n'));
    });

  dns.command('lookup <name> [type]')
    .description('ask as a container of this host would: the answer, who gave it, and why nobody else did')
    .requiredOption('--from <container>', 'a container, by name or id, or a sandbox')
    .action(async (name: string, type: string | undefined, { from }: { from: string }) => {
      show(await ask<NameTrace>('POST', 'dns-lookups', defined({ name, type, from }) as DnsLookupRequest), traceText);
    });

  dns.command('log [state]')
    .description('write queries into weftd\'s log from now on (`on`), or no more (`off`); without either: whose are written')
    .option('--from <container>', 'of this container or sandbox only')
    .action(async (state: string | undefined, { from }: { from?: string }) => {
      if (state !== undefined && state !== 'on' && state !== 'off') throw weftError('WEFT-CALL-UNKNOWN', { call: `dns log ${state}` });
      show(await (state === undefined ? ask<QueryLogAnswer>('GET', 'dns-log') : ask<QueryLogAnswer>('POST', 'dns-log', defined({ on: state === 'on', from }))), logText);
    });

  dns.command('host [state]')
    .description('answer programs of this host that ask for NAME.NETWORK.weft (`on`), or no more (`off`); without either: where they are answered')
    .option('--address <address>', 'at this address of its loopback (default: 127.0.0.87)')
    .action(async (state: string | undefined, { address }: { address?: string }) => {
      if (state !== undefined && state !== 'on' && state !== 'off') throw weftError('WEFT-CALL-UNKNOWN', { call: `dns host ${state}` });
      if (state === undefined) return show(await ask<HostDnsAnswer>('GET', 'dns-host'), hostText);
      const answer = await ask<HostDnsAnswer>('POST', 'dns-host', defined({ on: state === 'on', address }));
      keepHost(config(), state === 'on', address);
      show(answer, hostText);
    });

  dns.command('ls').description('the records that were added').action(async () => {
    show(await ask<DnsRecordAnswer[]>('GET', 'dns-records'), recordTable);
  });
}
