import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { test } from 'tap';
import { BpfAssembler } from './bpf-assembler.ts';
import { loadTcProgram } from './bpf.ts';

test('signals that come while the kernel checks a program', async (t) => {
  // Long enough for a signal to come in between.
  const program = new BpfAssembler();
  for (let i = 0; i < 100; i++) program.load(2, 1, 16, 4).ifEqual(2, i, 'end');
  const instructions = program.label('end').return(0).assemble();
  let signals = 0;
  const count = (): void => void signals++;
  process.on('SIGUSR2', count);
  const sender = spawn(process.execPath, ['-e', 'setInterval(() => process.kill(process.ppid, "SIGUSR2"), 2)'], { stdio: 'ignore' });
  const gone = once(sender, 'exit');
  t.teardown(async () => {
    sender.kill();
    // Until then: a signal that nobody listens for ends this process.
    await gone;
    process.off('SIGUSR2', count);
  });
  const deadline = Date.now() + 5_000;
  while (signals < 300 && Date.now() < deadline) {
    closeSync(loadTcProgram(instructions));
    await new Promise(setImmediate);
  }
  t.ok(signals >= 300, `${signals} signals`);
});
