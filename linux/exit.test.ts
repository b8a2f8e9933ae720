import { spawnSync } from 'node:child_process';
import { test } from 'tap';

/** What it prints, and its status. */
function run(source: string): { status: number | null; stdout: string; stderr: string } {
  const text = `import { exit, exitOnUncaught } from '${new URL('./exit.ts', import.meta.url).href}';\n${source}`;
  return spawnSync(process.execPath, ['--input-type=module-typescript', '--no-warnings', '-e', text], { encoding: 'utf8', timeout: 20_000 });
}

test('the process ends with its status, whatever it has under way', (t) => {
  const { status, stdout } = run(`
    import { pbkdf2 } from 'node:crypto';
    process.on('exit', () => console.log('Node\\'s own way'));
    pbkdf2('long', 'work', 2 ** 31 - 1, 64, 'sha512', () => {});
    setTimeout(() => {
      console.log('written before');
      exit(7);
    }, 50);
  `);
  t.equal(status, 7);
  t.equal(stdout, 'written before\n');
  t.end();
});

for (const [name, failure] of [['an error that nobody catches', 'setTimeout(() => { throw new Error("by nobody"); }, 50)'], ['a rejection that nobody handles', 'void Promise.reject(new Error("by nobody"))']] as const) {
  test(`the process ends by ${name}`, (t) => {
    const { status, stdout, stderr } = run(`
      import { pbkdf2 } from 'node:crypto';
      process.on('exit', () => console.log('Node\\'s own way'));
      exitOnUncaught();
      pbkdf2('long', 'work', 2 ** 31 - 1, 64, 'sha512', () => {});
      ${failure};
    `);
    t.equal(status, 1);
    t.equal(stdout, '');
    t.match(stderr, /Error: by nobody\n +at /);
    t.end();
  });
}
