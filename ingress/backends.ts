/** Which ports are published, and by which backends, as soft state tells it. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import { createFailureCheck, FAILED_NODE_GRACE_MS } from '../cluster/failed-nodes.ts';
import type { BackendRecord, SoftState } from '../cluster/state.ts';
import type { Protocol } from '../cnm/model.ts';
import { portKey } from '../cnm/ports.ts';

export interface Backend {
  /** Its node's id. */
  node: string;
  record: BackendRecord;
  /** Its node has failed; until then it may run on, and its flows with it. */
  failing?: TimerHandle;
}

export interface Port {
  protocol: Protocol; hostIp: string; port: number; service: string; backends: Map<string, Backend>;
  /** The only node that publishes it; undefined: all do. */
  node: string | undefined;
}

export interface Backends {
  ports(): Iterable<Port>;
  /** By portKey(), those of other nodes alone excepted. */
  port(key: string): Port | undefined;
  close(): void;
}

export const keyOf = ({ protocol, hostIp = '', port }: BackendRecord): string => portKey(protocol, hostIp, port);

/** `onChange` is called for each record that comes, changes or goes, also while this is created. */
export function watchBackends(state: SoftState, clock: Clock, onChange: () => void): Backends {
  const ports = new Map<string, Port>();
  const hasFailed = createFailureCheck(state);

  function remove(where: string, id: string): void {
    const port = ports.get(where);
    port?.backends.delete(id);
    if (port?.backends.size === 0) ports.delete(where);
    onChange();
  }

  const stop = state.watch('backend', ({ type, record: { key, owner, value }, local }) => {
    const node = value.mode === 'host' ? owner : undefined;
    const where = node === undefined || node === state.self ? keyOf(value) : `${node} ${keyOf(value)}`;
    const id = `${owner}/${key}`;
    const known = ports.get(where)?.backends.get(id);
    clock.clearTimeout(known?.failing);
    if (type === 'put') {
      const { protocol, hostIp = '', service } = value;
      const port: Port = ports.get(where) ?? { protocol, hostIp, port: value.port, service, backends: new Map(), node };
      port.service = service;
      port.backends.set(id, { node: owner, record: value });
      ports.set(where, port);
      onChange();
    } else if (known && !local && hasFailed(owner)) {
      known.failing = clock.setTimeout(() => remove(where, id), FAILED_NODE_GRACE_MS);
      onChange();
    } else remove(where, id);
  });

  return {
    ports: () => ports.values(),
    port: (key) => ports.get(key),
    close: () => {
      stop();
      for (const { backends } of ports.values()) for (const { failing } of backends.values()) clock.clearTimeout(failing);
    },
  };
}
