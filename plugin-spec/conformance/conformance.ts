/**
 * The conformance kit: drives a plugin at its socket as dockerd does on good days and bad ones, and says what did not
 * hold. It knows nothing of the plugin but the socket, and gives back what it made.
 */
import { statSync } from 'node:fs';
import { errorText } from '../../base/errors.ts';
import { parsePrefix, type Prefix } from '../../base/prefix.ts';
import { NotApplicable, type Check, type Driver } from './check.ts';
import { ipamChecks } from './ipam-checks.ts';
import { createKit, type KitOwner } from './kit.ts';
import { networkChecks } from './network-checks.ts';
import { networkDisorderChecks } from './network-disorder-checks.ts';
import { transportChecks } from './transport-checks.ts';

/** In the order in which they run. */
export const CHECKS: readonly Check[] = [...transportChecks, ...networkChecks, ...networkDisorderChecks, ...ipamChecks];

export const DEFAULT_SUBNET = '10.211.0.0/16';
export const DEFAULT_TIMEOUT_MS = 15_000;
/** Enough /24s for all checks. */
const LONGEST_SUBNET = 18;

export interface CheckResult {
  name: string;
  driver?: Driver;
  /** 'advice': a rule of level 'should' that does not hold. */
  status: 'ok' | 'failed' | 'advice' | 'skipped';
  rule: string;
  why: string;
  /** What was seen, or why the check was skipped; '' when all is well. */
  detail: string;
}

export interface Report {
  socket: string;
  implements: Driver[];
  /** No check failed, all ran to their end, and nothing is left. */
  conforms: boolean;
  interrupted: boolean;
  results: CheckResult[];
  /** Calls that should have given back what the kit made, and failed. */
  leftovers: string[];
}

export interface ConformanceOptions {
  socketPath: string;
  /** What the kit's networks and pools are cut from: IPv4, /8 to /18. */
  subnet?: string;
  /** The longest that a call may take. */
  timeoutMs?: number;
  /** Names of checks; all when there are none. */
  only?: readonly string[];
  /** Interrupts: no further calls but those that give back. */
  signal?: AbortSignal;
  /** Told of each result as it comes. */
  onResult?(result: CheckResult): void;
}

/** There is no plugin to judge, or it was asked for something else than there is. The message is for the user. */
export class CannotCheck extends Error {}

/** Throws CannotCheck; whatever the plugin does is in the report. */
export async function runConformance(options: ConformanceOptions): Promise<Report> {
  const { socketPath, timeoutMs = DEFAULT_TIMEOUT_MS, only = [], signal, onResult } = options;
  const subnet = readSubnet(options.subnet ?? DEFAULT_SUBNET);
  for (const name of only) {
    if (!CHECKS.some((check) => check.name === name)) throw new CannotCheck(`There is no check ${name}. There are: ${CHECKS.map((check) => check.name).join(', ')}`);
  }
  const owner = createKit({ socketPath, subnet, timeoutMs, ...(signal && { signal }) });
  try {
    const implemented = await activate(owner, socketPath);
    const applicable = CHECKS.filter(({ name, driver }) => (only.length === 0 || only.includes(name)) && (!driver || implemented.includes(driver)));
    if (applicable.length === 0) throw new CannotCheck(`${only.join(', ')}: not for this plugin, which implements ${implemented.join(' and ')} only`);
    const results: CheckResult[] = [];
    const report = (check: Check, status: CheckResult['status'], detail: string): void => {
      const { name, driver, rule, why } = check;
      const result = { name, ...(driver && { driver }), status, rule, why, detail };
      results.push(result);
      onResult?.(result);
    };
    let died = '';
    for (const check of applicable) {
      if (signal?.aborted || died) {
        report(check, 'skipped', signal?.aborted ? 'interrupted' : died);
        continue;
      }
      const failure = await check.run(owner.kit).then(() => undefined, (error: unknown) => error);
      if (signal?.aborted) report(check, 'skipped', 'interrupted');
      else if (failure === undefined) report(check, 'ok', '');
      else if (failure instanceof NotApplicable) report(check, 'skipped', failure.message);
      else {
        const alive = await owner.kit.raw('Plugin.Activate', '').then(() => true, () => false);
        if (!alive) died = `the plugin answers no more since ${check.name}`;
        report(check, check.level === 'must' || !alive ? 'failed' : 'advice', alive ? errorText(failure) : `${errorText(failure)}; the plugin answers no more`);
      }
      // So that no check stumbles over what another one left.
      if (!died) await owner.giveBack();
    }
    const leftovers = await owner.giveBack();
    const interrupted = signal?.aborted ?? false;
    const conforms = leftovers.length === 0 && !interrupted && results.every(({ status }) => status !== 'failed');
    return { socket: socketPath, implements: implemented, conforms, interrupted, results, leftovers };
  } finally {
    owner.close();
  }
}

function readSubnet(text: string): Prefix {
  const subnet = parsePrefix(text);
  if (subnet?.family !== 4 || subnet.length < 8 || subnet.length > LONGEST_SUBNET) {
    throw new CannotCheck(`${text} is no IPv4 subnet of /8 to /${LONGEST_SUBNET}: the kit cuts a /24 for each of its networks from it`);
  }
  return subnet;
}

/** Why there is nobody to talk to, for those errors that have one cause. */
const CAUSES: Record<string, string> = {
  ENOENT: 'there is no such file. Does the plugin run, and does it put its socket there?',
  ECONNREFUSED: 'nobody listens there: the socket is a leftover, or the plugin has ended.',
  EACCES: 'no permission. Sockets of plugins are usually for root alone: try sudo.',
};

async function activate({ kit }: KitOwner, socketPath: string): Promise<Driver[]> {
  const causeOf = (error: unknown): string | undefined => CAUSES[(error as NodeJS.ErrnoException | undefined)?.code ?? ''];
  try {
    if (!statSync(socketPath).isSocket()) throw new Error('the file is no socket.');
  } catch (error) {
    throw new CannotCheck(`${socketPath}: ${causeOf(error) ?? errorText(error)}`);
  }
  const answer = await kit.ok('Plugin.Activate').catch((error: unknown) => {
    throw new CannotCheck(`${socketPath}: ${causeOf((error as Error).cause) ?? `no Docker network plugin answers there. ${errorText(error)}`}`);
  });
  return (['NetworkDriver', 'IpamDriver'] as const).filter((driver) => (answer['Implements'] as string[]).includes(driver));
}
