import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { openEtcdStore } from '../store/etcd.ts';
import type { Store } from '../store/store.ts';
import type { Config } from './config.ts';

/** The etcd that the user runs, as the configuration describes it. */
export function openConfiguredEtcd({ endpoints, ca, cert, key, user, password }: NonNullable<Config['etcd']>, { clock, log }: { clock: Clock; log: Logger }): Store {
  return openEtcdStore({
    endpoints, clock, log,
    tls: { ...(ca !== undefined && { ca }), ...(cert !== undefined && { cert }), ...(key !== undefined && { key }) },
    ...(user !== undefined && password !== undefined && { credentials: { user, password } }),
  });
}
