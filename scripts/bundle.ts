/**
 * Puts weftd and weft into one file each, with the one native library beside them: dist/{weftd.cjs,weft.cjs,koffi.node}.
 * This is what ships, and what the lab's hosts run. hyperdht is left out: it brings native libraries for a dozen platforms,
 * and few want it. Who does installs it beside weftd.
 */
import { build } from 'esbuild';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '..');
const OUT = join(ROOT, 'dist');
const require = createRequire(import.meta.url);

/** koffi looks for its library in its own package's folders; bundled, it lies beside the program. */
const KOFFI_SHIM = `
const path = require('node:path');
const native = { exports: {} };
process.dlopen(native, path.join(__dirname, 'koffi.node'));
module.exports = native.exports;
`;

export async function bundle(): Promise<void> {
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  await build({
    entryPoints: { weftd: join(ROOT, 'agent/main.ts'), weft: join(ROOT, 'cli/main.ts') },
    outdir: OUT, outExtension: { '.js': '.cjs' }, bundle: true, platform: 'node', format: 'cjs', target: 'node24', minifySyntax: true, minifyWhitespace: true, legalComments: 'linked',
    external: ['hyperdht'],
    logLevel: 'warning', define: { 'import.meta.url': 'importMetaUrl', 'import.meta.main': 'false' },
    banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href;' },
    plugins: [{
      name: 'koffi-beside-the-program',
      setup(b) {
        b.onResolve({ filter: /^koffi$/ }, () => ({ path: 'koffi', namespace: 'shim' }));
        b.onLoad({ filter: /.*/, namespace: 'shim' }, () => ({ contents: KOFFI_SHIM, loader: 'js' }));
      },
    }],
  });
  copyFileSync(require.resolve(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`), join(OUT, 'koffi.node'));
}

if (import.meta.main) {
  await bundle();
  console.log(`bundled into ${dirname(join(OUT, 'weftd.cjs'))}`);
}
