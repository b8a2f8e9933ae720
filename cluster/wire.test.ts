import fc from 'fast-check';
import tap, { test } from 'tap';
import { fuzz } from '../gossip/hostile-for-tests.ts';
import type { Shipment } from './owner.ts';
import { decodeMessage, encodeMessage, type StateMessage } from './wire.ts';

const records: StateMessage = {
  kind: 'records', from: 'id1',
  shipments: [{
    owner: 'id1', epoch: 1, from: 0, upTo: 4, completeAt: 4, kept: [1, 2],
    records: [
      ['node', 'self', 1, { id: 'id1', name: 'host', number: 1, vtep: '192.0.2.1', underlayMtu: 1500, occupied: [{ prefix: '10.0.0.0/8', by: 'route via eth0' }], skippedPorts: ['tcp/22'] }],
      ['name', 'e', 2, { networkId: 'n', networkName: 'web', endpointId: 'e', ip: '10.1.0.2', name: 'a', names: ['b'], service: 's' }],
      ['backend', 'tcp/80/e', 3, { networkId: 'n', endpointId: 'e', ip: '10.1.0.2', protocol: 'tcp', port: 80, targetPort: 8080, service: 's', mode: 'ingress' }],
      ['endpoint', 'e', 4, null],
    ],
  }],
};
const digest: StateMessage = { kind: 'digest', from: 'id1', owners: { id1: [1, 4] }, whole: true, reply: false };

const CASES = Number(process.env['FUZZ_CASES'] ?? 200_000);
tap.setTimeout(Math.max(570_000, CASES));

void test('a message is read as it was written; one of another version is none', async (t) => {
  for (const message of [records, digest]) t.same(decodeMessage(encodeMessage(message)), { message, leftOut: 0 });
  t.equal(decodeMessage(Buffer.from('\u0001{}')), undefined);
});

const shipped = (...list: Shipment['records']): StateMessage => ({ kind: 'records', from: 'id1', shipments: [{ owner: 'id1', epoch: 1, from: 0, upTo: list.length, completeAt: 0, records: list }] });
const leftOut = (...list: Shipment['records']): number | undefined => decodeMessage(encodeMessage(shipped(...list)))?.leftOut;

void test('every kind of record that a node may publish passes', async (t) => {
  const backend = { networkId: 'n', endpointId: 'e', ip: '10.1.0.2', port: 80, targetPort: 8080, service: 's' };
  t.equal(leftOut(
    ['endpoint', 'e', 1, { networkId: 'n', endpointId: 'e', ip: '10.1.0.2', ip6: 'fd00::2', mac: '02:42:0a:01:00:02' }],
    ['name', 'e', 2, { networkId: 'n', networkName: 'web', endpointId: 'e', ip: '10.1.0.2', ip6: 'fd00::2', name: 'a', names: [], service: '' }],
    ...(['tcp', 'udp', 'sctp'] as const).map((protocol, i): Shipment['records'][number] => ['backend', `${protocol}/80/e`, 3 + i, { ...backend, protocol, mode: 'ingress' }]),
    ['backend', 'tcp/192.0.2.1:80/e', 6, { ...backend, protocol: 'tcp', mode: 'host', hostIp: '192.0.2.1' }],
  ), 0);
});

void test('a record whose addresses are none is left out, wherever it has one', async (t) => {
  t.equal(leftOut(
    ['endpoint', 'e', 1, { networkId: 'n', endpointId: 'e', ip: '10.1.0.2', ip6: 'nowhere', mac: '02:42:0a:01:00:02' }],
    ['name', 'e', 2, { networkId: 'n', networkName: 'web', endpointId: 'e', ip: '10.1.0.2', ip6: '::g', name: 'a', names: [], service: '' }],
    ['backend', 'tcp/80/e', 3, { networkId: 'n', endpointId: 'e', ip: '10.1.0.2', port: 80, targetPort: 8080, service: 's', protocol: 'tcp', mode: 'host', hostIp: '0.0.0.0; drop' }],
  ), 3);
});

void test('whatever is sent', async (t) => {
  const samples = [encodeMessage(records), encodeMessage(digest)];
  const hostile = fc.oneof(
    fc.json().map((text) => Buffer.from(`\u0002${text}`)),
    fc.tuple(fc.constantFrom(...samples), fc.array(fc.tuple(fc.nat(900), fc.integer({ min: 0x20, max: 0x7d })), { maxLength: 4 }), fc.nat(1200)).map(([sample, changes, keep]) => {
      const bytes = Buffer.from(sample);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return bytes.subarray(0, keep);
    }),
  );
  fc.assert(fc.property(hostile, (data) => void decodeMessage(data)), { numRuns: 50_000 });
  t.pass('50,000 messages');
});

void test(`real messages, changed: ${CASES} hostile cases`, async (t) => {
  const samples = [encodeMessage(records), encodeMessage(digest)];
  const { slowestMs, grownBytes } = await fuzz((data) => void decodeMessage(data), { samples, seed: 1, count: CASES });
  t.ok(slowestMs < 10, `the slowest took ${slowestMs.toFixed(2)} ms`);
  t.ok(grownBytes < 24 << 20, `the heap grew by ${(grownBytes / 1024).toFixed(0)} KiB`);
});
