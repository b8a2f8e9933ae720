import type { Clock } from '../base/clock.ts';
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { GRPC } from './etcd-gateway.ts';
import { GatewayError } from './etcd-http.ts';
import type { Lease } from './store.ts';

interface LeaseOptions {
  call: (path: string, body: object, options: { safe: boolean; expected?: readonly number[] }) => Promise<Record<string, unknown>>;
  /** Seconds; etcd raises it to one and a half election timeouts (2 s by default). */
  ttl: number;
  clock: Clock;
  log: Logger;
}

/**
 * A lease, renewed at a third of its time to live until stopped or revoked. When etcd was away for longer than that, the
 * lease and its keys are gone; it is then granted anew under the same id. Putting the keys back is their holder's
 * affair: a watch shows them going.
 */
export async function grantLease({ call, ttl, clock, log }: LeaseOptions): Promise<{ lease: Lease; stop: () => void }> {
  const granted = await call('/v3/lease/grant', { TTL: String(ttl) }, { safe: true });
  const id = String(granted['ID']);
  let stopped = false;

  async function renew(): Promise<void> {
    // An answer without a time to live says that the lease is over.
    const { result } = await call('/v3/lease/keepalive', { ID: id }, { safe: true }) as { result?: { TTL?: string } };
    if (result?.TTL !== undefined || stopped) return;
    log.warn({ lease: id }, 'a lease ended while the store was away; its keys are gone');
    await call('/v3/lease/grant', { ID: id, TTL: String(ttl) }, { safe: true, expected: [GRPC.failedPrecondition] }).catch((error: unknown) => {
      if (!(error instanceof GatewayError)) throw error;
    });
  }

  let timer = clock.setTimeout(tick, (ttl * 1000) / 3);
  function tick(): void {
    renew()
      .catch((error: unknown) => log.debug({ lease: id, detail: errorText(error) }, 'a lease could not be renewed'))
      .finally(() => {
        if (!stopped) timer = clock.setTimeout(tick, (ttl * 1000) / 3);
      });
  }
  const stop = (): void => {
    stopped = true;
    clock.clearTimeout(timer);
  };

  const revoke = async (): Promise<void> => {
    stop();
    await call('/v3/lease/revoke', { ID: id }, { safe: true, expected: [GRPC.notFound] }).catch((error: unknown) => {
      if (!(error instanceof GatewayError)) throw error;
    });
  };
  return { lease: { id, ttl, revoke }, stop };
}
