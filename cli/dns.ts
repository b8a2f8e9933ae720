/** `weft dns`: the operator's own records. */
import type { Command } from 'commander';
import type { AddDnsRecordRequest, DnsRecordAnswer, DnsRecordRequest } from '../agent/api.ts';
import { weftError } from '../base/errors.ts';
import { defined } from './options.ts';
import { table } from './table.ts';

export interface DnsCommandOptions {
  ask<T>(method: string, path: string, body?: object): Promise<T>;
  show<T>(answer: T, text: (answer: T) => string): void;
}

const recordTable = (records: DnsRecordAnswer[]): string =>
  table(['NAME', 'TYPE', 'VALUE', 'TTL', 'NETWORK'], records.map(({ name, type, value, ttl, network }) => [name, type, value, ttl, network ?? '(all)']));

const recordText = ({ name, type, value, network }: DnsRecordAnswer): string => `${name} ${type} ${value}${network === undefined ? '' : ` on ${network}`}`;

function seconds(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw weftError('WEFT-RECORD-MALFORMED', { what: `the TTL ${text}`, detail: 'it is no number of seconds', hint: 'write it as 60' });
  return Number(text);
}

export function addDnsCommands(program: Command, { ask, show }: DnsCommandOptions): void {
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

  dns.command('ls').description('the records that were added').action(async () => {
    show(await ask<DnsRecordAnswer[]>('GET', 'dns-records'), recordTable);
  });
}
