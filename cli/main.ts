#!/usr/bin/env node
/** weft: the operator's command. It talks to weftd's control socket and knows nothing of the kernel. */
import { join } from 'node:path';
import { Command } from 'commander';
import type { AddSandboxRequest, NodeAnswer, PsAnswer, SandboxAnswer, StatusAnswer, TokenAnswer } from '../agent/api.ts';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../agent/config.ts';
import type { ReachabilityReport } from '../agent/reachability.ts';
import { errorText, weftError } from '../base/errors.ts';
import { addBackupCommands } from './backup.ts';
import { call } from './client.ts';
import { addDnsCommands } from './dns.ts';
import { joinCluster, type JoinOptions } from './join.ts';
import { probeAtJoin, probeText } from './probe.ts';
import { nodeTable, psText, statusText } from './render.ts';
import { addIpamCommands } from './ipam.ts';
import { addNetworkCommands } from './network.ts';
import { collect, defined } from './options.ts';
import { purge, startAgent, stopAgent } from './service.ts';
import { configure, type UpOptions } from './up.ts';

const program = new Command('weft')
  .description('container networks that span plain Docker hosts')
  .option('--config <path>', 'configuration file', DEFAULT_CONFIG_PATH)
  .option('--json', 'answer in JSON, for programs')
  .showHelpAfterError();

const configPath = (): string => program.opts<{ config: string }>().config;
const socket = (): string => join(loadConfig(configPath()).runDir, 'weft.sock');
const ask = <T>(method: string, path: string, body?: object): Promise<T> => call<T>(socket(), method, path, body);

function show<T>(answer: T, text: (answer: T) => string): void {
  console.log(program.opts<{ json?: boolean }>().json ? JSON.stringify(answer) : text(answer));
}

program.command('up')
  .description('set this host up and start weftd')
  .option('--advertise <address|interface>', 'underlay address that other nodes send to')
  .option('--store <urls>', 'endpoints of an etcd of yours, comma-separated (default: Weft keeps the store itself)')
  .option('--store-ca <file>', 'who signed its certificate (PEM)')
  .option('--store-cert <file>', 'certificate to show it (PEM)')
  .option('--store-key <file>', 'key of that certificate (PEM)')
  .option('--name <name>', 'what people call this node (default: the host\'s name)')
  .option('--seeds <addresses>', 'where other nodes may be, comma-separated, beside what the store says')
  .option('--multicast', 'find other nodes on the local network (default)')
  .option('--no-multicast', 'do not')
  .option('--dht [addresses]', 'find other nodes through a hash table of their own, which begins with these (needs hyperdht beside weftd)')
  .option('--no-dht', 'do not (default)')
  .option('--node-prefix <prefix>', 'of the nodes\' own addresses in the fabric (default: 10.255.0.0/16); the same on every host')
  .option('--no-start', 'write the configuration only')
  .action(async ({ start, ...options }: UpOptions & { start: boolean }) => {
    const config = configure(configPath(), options);
    if (start) await startAgent(config, configPath());
    show({ advertise: config.advertise, started: start }, () => `${start ? 'weftd runs' : 'configured'}: other nodes reach this one at ${config.advertise}`);
  });

program.command('down')
  .description('stop weftd; networks and containers go on as they are')
  .option('--purge', 'take everything of Weft off this host, Docker\'s networks included')
  .action(async ({ purge: everything }: { purge?: boolean }) => {
    await stopAgent(loadConfig(configPath()));
    if (everything) process.exitCode = purge(configPath());
  });

program.command('status').description('this node, its cluster and what is wrong').action(async () => {
  show(await ask<StatusAnswer>('GET', 'status'), statusText);
});

program.command('ps').description('endpoints of this node and published ports of the cluster').action(async () => {
  show(await ask<PsAnswer>('GET', 'ps'), psText);
});

program.command('token [action]')
  .description('what other hosts join with; `weft token rotate` makes a new one, and earlier ones are refused')
  .action(async (action: string | undefined) => {
    if (action !== undefined && action !== 'rotate') throw weftError('WEFT-CALL-UNKNOWN', { call: `token ${action}` });
    show(await ask<TokenAnswer>('POST', 'token', { rotate: action === 'rotate' }), ({ token, expires }) => `weft join ${token}\n\nvalid until ${new Date(expires).toISOString()}`);
  });

program.command('join [token]')
  .description('make this host a member of a cluster, and start weftd')
  .option('--token-file <file>', 'read the token from a file; `-` is the standard input')
  .option('--advertise <address|interface>', 'underlay address that other nodes send to')
  .option('--name <name>', 'what people call this node (default: the host\'s name)')
  .option('--store-ca <file>', 'of an etcd of yours: who signed its certificate (PEM)')
  .option('--store-cert <file>', 'certificate to show it (PEM)')
  .option('--store-key <file>', 'key of that certificate (PEM)')
  .option('--no-start', 'write the configuration only')
  .action(async (token: string | undefined, options: JoinOptions) => {
    const { start } = options;
    const config = await joinCluster(configPath(), token, options);
    if (start) await startAgent(config, configPath());
    show({ advertise: config.advertise, started: start }, () => `joined: other nodes reach this one at ${config.advertise}`);
    // Joined it is, whatever is found: the warnings go where they do not disturb programs.
    if (start) console.error(await probeAtJoin(ask));
  });

program.command('key').description('the keys of the gossip protocol and of encrypted networks').command('rotate').description('change them now; they change by themselves every 12 hours').action(async () => {
  await ask('POST', 'key');
  show({ rotating: true }, () => 'the key is being changed');
});

const node = program.command('node').description('the hosts of the cluster');

node.command('ls').description('number, name, id, address and state of each host').action(async () => {
  show(await ask<NodeAnswer[]>('GET', 'nodes'), nodeTable);
});

node.command('probe [node]')
  .description('try the ports between this host and some others, or one, in both directions')
  .action(async (reference: string | undefined) => {
    const report = await ask<ReachabilityReport>('POST', `reachability/${encodeURIComponent(reference ?? '')}`);
    show(report, probeText);
    if (report.closed.length > 0) process.exitCode = 1;
  });

node.command('rm <node>')
  .description('take a host out of the cluster that is gone for good')
  .option('--force', 'also when it answers')
  .action(async (reference: string, { force }: { force?: boolean }) => {
    await ask('DELETE', `nodes/${encodeURIComponent(reference)}`, { force: force ?? false });
    show({ removed: reference }, () => reference);
  });

node.command('promote <node>')
  .description('let a host hold a copy of the store, in place of one that is away where there is one')
  .action(async (reference: string) => {
    await ask('POST', `nodes/${encodeURIComponent(reference)}`);
    show({ promoted: reference }, () => `${reference} gets a copy of the store; \`weft status\` shows when it has it`);
  });

addNetworkCommands(program, { ask, show });
addIpamCommands(program, { ask, show });
addDnsCommands(program, { ask, show, config: configPath });

const sandbox = program.command('sandbox').description('network namespaces on Weft networks, without Docker');

sandbox.command('add <name>')
  .description('put a network namespace on a network')
  .requiredOption('--network <network>', 'which one; Weft has to give out its addresses')
  .option('--netns <path>', 'a namespace that exists (default: a new one at /run/netns/NAME)')
  .option('--ip <address>', 'its IPv4 address (default: a free one)')
  .option('--ip6 <address>', 'its IPv6 address (default: a free one)')
  .option('--alias <name>', 'a further name; may be repeated', collect)
  .option('-p, --publish <[[address:]host[-last]:]container[/protocol]>', 'publish a port on every node, or on an address of this one; may be repeated', collect)
  .option('--service <name>', 'whose backend it is (default: its name)')
  .action(async (name: string, options: { network: string; netns?: string; ip?: string; ip6?: string; alias?: string[]; publish?: string[]; service?: string }) => {
    const request = defined({
      name, network: options.network, netns: options.netns, address: options.ip, addressIpv6: options.ip6, aliases: options.alias, ports: options.publish, service: options.service,
    }) as AddSandboxRequest;
    show(await ask<SandboxAnswer>('POST', 'sandboxes', request), (answer) => `${answer.name}: ${[answer.address, answer.addressIpv6].filter((each) => each !== undefined).join(', ') || 'no address'} on ${answer.network} (${answer.interface}), namespace ${answer.netns}`);
  });

sandbox.command('rm <name>').description('take it off its networks; a namespace that Weft made goes with it').action(async (name: string) => {
  await ask('DELETE', `sandboxes/${encodeURIComponent(name)}`);
  show({ removed: name }, () => name);
});

addBackupCommands(program, { ask, show, config: () => loadConfig(configPath()) });

// Timers of ours do not keep a process alive, and a command must not end half way.
const awake = setInterval(() => {}, 60_000);
program.parseAsync().catch((error: unknown) => {
  console.error(errorText(error));
  process.exitCode = 1;
}).finally(() => clearInterval(awake));
