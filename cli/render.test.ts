import { test } from 'tap';
import type { StatusAnswer } from '../agent/api.ts';
import { psText, statusText } from './render.ts';

const well: StatusAnswer = {
  node: { id: 'fbe6edf7a75f2e8c', name: 'h1', number: 1, vtep: '10.0.0.1', version: '0' }, store: { description: 'etcd at https://10.0.0.1:7948', healthy: true }, docker: { up: true, version: '20.10.24' },
  members: [], counts: { networks: 0, endpoints: 0, sandboxesWithNames: 0 }, cleartext: [], pools: [], dns: {}, dnsLatency: {}, repairs: [], problems: [],
};

test('status says in words what is not well', (t) => {
  t.notMatch(statusText(well), /does not answer|in the clear/);
  const away = statusText({ ...well, store: { ...well.store, healthy: false, degraded: 'containers go on: 7 addresses left' } });
  t.match(away, /^store {4}etcd at https:\/\/10\.0\.0\.1:7948: does not answer\n {9}containers go on: 7 addresses left$/m);
  t.match(statusText({ ...well, cleartext: ['shop', 'web'] }), /^wire {5}data of shop, web crosses the underlay in the clear: who can listen there can read it; gossip and the store are encrypted$/m);
  t.match(statusText({ ...well, store: { description: 'etcd at http://10.0.0.1:2379', healthy: true }, cleartext: ['web'] }), /^wire .*; gossip is encrypted, what is said to the store is not$/m);
  t.match(statusText({ ...well, cleartext: ['a', 'b', 'c', 'd', 'e', 'f'] }), 'data of a, b, c, d and 2 more crosses');
  t.end();
});

test('ps says on which address a port is, and where it is not', (t) => {
  const backends = [{ endpointId: 'e', node: 'h1', ip: '10.1.0.2', port: 80 }];
  const text = psText({ endpoints: [], ports: [
    { protocol: 'tcp', hostIp: '', port: 8080, service: 'shop', mode: 'ingress', backends, skippedOn: ['h2'] },
    { protocol: 'udp', hostIp: '2001:db8::1', port: 53, service: 'dns', mode: 'host', backends: [{ endpointId: 'e', node: 'h1', ip: '10.1.0.2', ip6: 'fd20::2', port: 5353 }], skippedOn: [] },
    { protocol: 'sctp', hostIp: '127.0.0.1', port: 9899, service: 'shop', mode: 'host', backends, skippedOn: [] },
  ] });
  t.match(text, /^8080\/tcp +shop +ingress +10\.1\.0\.2:80 \(h1\) +h2 \(in use there\)$/m);
  t.match(text, /^\[2001:db8::1\]:53\/udp +dns +host +10\.1\.0\.2:5353 \[fd20::2\]:5353 \(h1\)/m);
  t.match(text, /^127\.0\.0\.1:9899\/sctp +shop +host +10\.1\.0\.2:80 \(h1\)/m);
  t.end();
});
