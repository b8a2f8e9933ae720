/** Embedded stores for tests: in the test's own folder, closed and removed with it. */
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { openLocalStore } from './local.ts';
import { openSqliteStore } from './sqlite.ts';
import type { LocalStore, Store } from './store.ts';

export interface StoresForTests {
  folder: string;
  /** Opens that of a cluster; its name tells it from others of the same test. */
  store(name?: string): Store;
  /** Opens that of a host. */
  local(name?: string): LocalStore;
}

/** Once a test: its folder is emptied. What is torn down later may not need the stores. */
export function storesForTests(t: Test, clock: Clock = new VirtualClock()): StoresForTests {
  const folder = t.testdir();
  const closedWithTest = <T extends Store | LocalStore>(store: T): T => {
    t.teardown(() => store.close());
    return store;
  };
  return {
    folder,
    store: (name = 'store') => closedWithTest(openSqliteStore(join(folder, `${name}.db`), { clock, log })),
    local: (name = 'local') => closedWithTest(openLocalStore(join(folder, `${name}.db`))),
  };
}
