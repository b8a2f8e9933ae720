import { pino } from 'pino';
import { test } from 'tap';
import type { QueryListener } from '../dns/dns.ts';
import { createQueryLog } from './query-log.ts';

test('queries are logged while it is switched on, of one container or of all', async (t) => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  let listener: QueryListener | undefined;
  const names = new Map([['/n/1', 'c1']]);
  const queryLog = createQueryLog({ resolver: { listen: (next) => void (listener = next) }, nameAt: (path) => names.get(path), log });
  const wants = (): boolean[] => ['/n/1', '/n/2'].map((path) => listener?.wants(path) ?? false);

  t.same([queryLog.state(), wants()], [{ all: false, containers: [] }, [false, false]]);
  t.same([queryLog.set(true, 'c1'), wants()], [{ all: false, containers: ['c1'] }, [true, false]]);
  names.set('/n/2', 'c2');
  queryLog.set(true, 'c2');
  t.same(wants(), [true, true], 'one whose name was not known at first');
  listener!.heard('/n/1', { name: 'db.test', type: 28, transport: 'udp', from: 'records', rcode: 0, ms: 0.12345 });
  listener!.heard('/n/3', { name: 'www.example', type: 999, transport: 'tcp', from: 'upstreams', rcode: 3, ms: 7 });
  listener!.heard('/n/3', { name: 'www.example', type: 1, transport: 'udp', from: 'docker', rcode: 0, ms: 7 });
  listener!.heard('/n/3', { name: 'www.example', type: 1, transport: 'udp', from: undefined, rcode: 2, ms: 4000 });
  t.match(lines, [
    { msg: 'query', container: 'c1', name: 'db.test', type: 'AAAA', transport: 'udp', rcode: 'NOERROR', from: 'records', ms: 0.123 },
    { msg: 'query', container: '/n/3', name: 'www.example', type: 'TYPE999', rcode: 'NXDOMAIN', from: 'upstreams', ms: 7 },
    { rcode: 'NOERROR', from: 'docker' },
    { rcode: 'SERVFAIL', from: 'nobody', ms: 4000 },
  ]);
  t.same([queryLog.set(false, 'c1'), wants()], [{ all: false, containers: ['c2'] }, [false, true]]);
  t.same([queryLog.set(true), wants()], [{ all: true, containers: ['c2'] }, [true, true]]);
  t.same([queryLog.set(false), listener], [{ all: false, containers: [] }, undefined], 'off for all is off for each');
});
