/** Running commands for the lab: results instead of exceptions, output bounded, nothing through a shell. */
import { spawn } from 'node:child_process';

export interface Result { code: number; stdout: string; stderr: string }
export interface RunOptions { input?: string; env?: Record<string, string>; timeoutMs?: number }

const MAX_OUTPUT = 16 << 20;

export function run(command: readonly string[], { input, env, timeoutMs = 120_000 }: RunOptions = {}): Promise<Result> {
  return new Promise((resolve, reject) => {
    const [file, ...args] = command;
    const child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    // A grandchild (behind nsenter) may hold the pipes open for ever: they are let go of.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
    }, timeoutMs);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => { if (stdout.length < MAX_OUTPUT) stdout += chunk.toString(); });
    child.stderr.on('data', (chunk: Buffer) => { if (stderr.length < MAX_OUTPUT) stderr += chunk.toString(); });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code: code ?? 128, stdout, stderr: signal ? `${stderr}\n(ended by ${signal})` : stderr });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input ?? '');
  });
}

/** Standard output; rejects with what the command said when it fails. */
export async function must(command: readonly string[], options?: RunOptions): Promise<string> {
  const { code, stdout, stderr } = await run(command, options);
  if (code !== 0) throw new Error(`${command.join(' ')}: exit ${code}: ${(stderr || stdout).trim().slice(-2000)}`);
  return stdout;
}

export const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again until the answer is not undefined, false or an error; rejects after the deadline, with the last error. */
export async function until<T>(what: string, ask: () => T | Promise<T>, timeoutMs = 30_000, everyMs = 50): Promise<Exclude<T, undefined | false | null>> {
  let last: unknown;
  for (const end = Date.now() + timeoutMs; Date.now() < end; await wait(everyMs)) {
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false && answer !== null) return answer as Exclude<T, undefined | false | null>;
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`${what}: not within ${timeoutMs} ms${last instanceof Error ? ` (${last.message})` : ''}`);
}
