import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { WEFTD_ENVIRONMENT, WEFTD_FLAGS } from './footprint.ts';

void test('the systemd unit starts weftd as `weft up` does', async (t) => {
  const unit = readFileSync(new URL('../packaging/systemd/weft.service', import.meta.url), 'utf8');
  t.match(unit, `ExecStart=/usr/lib/weft/node ${WEFTD_FLAGS.join(' ')} /usr/lib/weft/weftd.cjs\n`);
  for (const [name, value] of Object.entries(WEFTD_ENVIRONMENT)) t.match(unit, `Environment=${name}=${value}\n`);
});
