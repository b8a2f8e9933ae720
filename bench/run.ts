/** `npm run bench -- NAME`: runs bench/NAME.ts, which ends with one JSON line. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const [name = ''] = process.argv.slice(2);
const path = join(import.meta.dirname, `${name}.ts`);
if (!/^[a-z]+$/.test(name) || name === 'run' || !existsSync(path)) {
  console.error('npm run bench -- attach | burst | converge | dns | gossip | ipam | limits | path | scale | store');
  process.exit(2);
}
await import(path);
