/** `npm run conformance -- SOCKET`: the conformance kit as a command. See the README beside it. */
import { parseArgs } from 'node:util';
import { errorText } from '../../base/errors.ts';
import { CHECKS, DEFAULT_SUBNET, DEFAULT_TIMEOUT_MS, runConformance } from './conformance.ts';
import { resultText, summaryText } from './text.ts';

const USAGE = `npm run conformance -- SOCKET [options]

Asks the Docker network plugin at SOCKET what dockerd asks, in order and in disorder, and says what does not conform.
It really makes networks, endpoints and pools through the plugin, and removes them.

  --subnet CIDR      IPv4, /8 to /18: where its networks and pools are cut from (${DEFAULT_SUBNET})
  --only NAME        this check only; may be repeated
  --timeout SECONDS  the longest that a call may take (${DEFAULT_TIMEOUT_MS / 1000})
  --json             the report as JSON
  --list             the checks, without a plugin

Exit status: 0 the plugin conforms, 1 it does not or there is none, 130 interrupted.`;

function options() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      subnet: { type: 'string', default: DEFAULT_SUBNET },
      only: { type: 'string', multiple: true, default: [] },
      timeout: { type: 'string', default: String(DEFAULT_TIMEOUT_MS / 1000) },
      json: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const timeoutMs = Number(values.timeout) * 1000;
  if (!(timeoutMs > 0)) throw new Error(`--timeout ${values.timeout}: expected seconds`);
  if (positionals.length !== 1 && !values.help && !values.list) throw new Error(`Expected one socket.\n\n${USAGE}`);
  return { ...values, timeoutMs, socketPath: positionals[0] ?? '' };
}

async function main(): Promise<number> {
  const { help, list, json, socketPath, subnet, only, timeoutMs } = options();
  if (help || list) {
    console.log(help ? USAGE : CHECKS.map(({ name, driver, level, rule }) => `${name.padEnd(20)} ${(driver ?? 'any plugin').padEnd(13)} ${level.padEnd(6)} ${rule}`).join('\n'));
    return 0;
  }
  const interruption = new AbortController();
  // The second one ends the process as usual: the plugin may never answer.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => interruption.abort());
  const report = await runConformance({
    socketPath, subnet, only, timeoutMs, signal: interruption.signal,
    ...(!json && { onResult: (result) => console.log(resultText(result)) }),
  });
  console.log(json ? JSON.stringify(report, undefined, 1) : summaryText(report));
  if (report.interrupted) return 130;
  return report.conforms ? 0 : 1;
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(errorText(error));
  return 1;
});
