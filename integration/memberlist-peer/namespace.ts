/** A network namespace of one's own for a test or a bench: its loopback device carries nothing else, and everything ends with it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { must } from '../lab/run.ts';

const INSIDE = 'WEFT_IN_NAMESPACE';

/**
 * Runs this program again in new network and process namespaces and ends with it; returns there. What it starts and
 * leaves behind is ended by the kernel.
 */
export async function enterOwnNamespace(): Promise<void> {
  if (process.env[INSIDE] === undefined) {
    const child = spawn('unshare', ['--net', '--pid', '--fork', '--kill-child', '--mount-proc', process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
      stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' },
    });
    const [code] = await once(child, 'exit') as [number | null];
    process.exit(code ?? 1);
  }
  await must(['ip', 'link', 'set', 'lo', 'up']);
}
