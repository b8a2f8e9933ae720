/** `weft ipam`: who has which addresses, what is wrong with that, and what becomes of those of a node that is gone. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { CheckAnswer, FixAnswer, PoolAnswer, ReclaimAnswer, ReclaimPlan } from '../agent/ipam-api.ts';
import { table } from './table.ts';

export interface IpamCommandOptions {
  ask<T>(method: string, path: string, body?: object): Promise<T>;
  show<T>(answer: T, text: (answer: T) => string): void;
}

const ipamTable = (pools: PoolAnswer[]): string => table(['POOL', 'NETWORK', 'NODE', 'BLOCKS', 'ADDRESSES', 'USED', 'RESTING', 'FREE'], pools.flatMap((pool) => [
  ...pool.shares.map(({ name, blocks, addresses, used, resting, free }) => [pool.subnet, pool.network, name, blocks, addresses, used, resting, free]),
  [pool.subnet, pool.network, '(nobody)', undefined, pool.unclaimed, undefined, undefined, undefined],
]));

const checkText = ({ node, pools, findings }: CheckAnswer): string => [
  ...findings.map(({ kind, text, fix, fixable }) => `${kind}: ${text}\n  ${fixable ? '--fix' : 'to do'}: ${fix}`),
  `${findings.length} findings in ${pools} pools, as node ${node} sees them${findings.some(({ fixable }) => fixable) ? '; weft ipam check --fix mends those with --fix' : ''}`,
].join('\n');

const planText = ({ id, name, state, blocks }: ReclaimPlan): string => [
  `Node ${name} (${id}, ${state}) has these addresses, which it alone hands out:`,
  ...table(['POOL', 'NETWORK', 'BLOCKS', 'ADDRESSES'], blocks.map((each) => [each.subnet, each.network, each.blocks, each.addresses])).split('\n').map((line) => `  ${line}`),
  'Reclaiming makes them free for the other nodes. It is for a host that will not come back: containers that still run on it keep',
  'their addresses, and others will be given the same ones.',
  `To go on: weft ipam reclaim --yes ${id}`,
].join('\n');

export function addIpamCommands(program: Command, { ask, show }: IpamCommandOptions): void {
  const ipam = program.command('ipam').description('addresses');

  ipam.command('ls').description('which node has which share of each pool').action(async () => {
    show(await ask<PoolAnswer[]>('GET', 'ipam'), ipamTable);
  });

  ipam.command('check')
    .description('compare store, nodes and kernel; status 1 when something is found')
    .option('--fix [report]', 'mend what can be mended: what the check finds, or what is in the file of an earlier --json check')
    .action(async ({ fix }: { fix?: string | true }) => {
      const report = typeof fix === 'string' ? JSON.parse(readFileSync(fix, 'utf8')) as CheckAnswer : await ask<CheckAnswer>('GET', 'ipam/check');
      if (fix === undefined) {
        show(report, checkText);
        if (report.findings.length > 0) process.exitCode = 1;
        return;
      }
      const fixable = report.findings.filter((each) => each.fixable);
      const { results } = await ask<FixAnswer>('POST', 'ipam/fix', { ids: fixable.map(({ id }) => id) });
      const outcomes = new Map(results.map(({ id, outcome }) => [id, outcome]));
      show({ ...report, results }, () => [
        ...report.findings.map(({ id, kind, text, fix: advice }) => `${kind}: ${text}\n  ${outcomes.get(id) ?? `to do: ${advice}`}`),
        `${results.length} of ${report.findings.length} findings were acted on`,
      ].join('\n'));
    });

  ipam.command('reclaim <node>')
    .description('make the addresses of a node that is gone for good free for the others')
    .option('--yes', 'do it; without this it is only said what would be done')
    .action(async (node: string, { yes }: { yes?: boolean }) => {
      const path = `node-blocks/${encodeURIComponent(node)}`;
      if (yes) show(await ask<ReclaimAnswer>('DELETE', path), (answer) => `${answer.blocks} blocks of node ${answer.name} are free now`);
      else show(await ask<ReclaimPlan>('GET', path), planText);
    });
}
