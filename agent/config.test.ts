import { test } from 'tap';
import { parseConfig, type Config } from './config.ts';

const read = (value: object): Config => parseConfig(JSON.stringify(value), 'weft.json');

test('addresses of both families, each as it is written everywhere', (t) => {
  t.equal(read({ advertise: '10.0.0.7' }).advertise, '10.0.0.7');
  t.equal(read({ advertise: '2001:DB8:0::7' }).advertise, '2001:db8::7');
  for (const advertise of ['host', '10.0.0.7/24', 'fe80::1%eth0', '']) t.throws(() => read({ advertise }), { code: 'WEFT-CONFIG', message: /advertise/ }, advertise);
  t.same(read({ advertise: '10.0.0.7', discovery: { seeds: ['10.0.0.8', '10.0.0.9:1', '2001:db8::8', '[2001:db8::9]:1'] } }).discovery.seeds, [
    { host: '10.0.0.8', port: 7947 }, { host: '10.0.0.9', port: 1 }, { host: '2001:db8::8', port: 7947 }, { host: '2001:db8::9', port: 1 },
  ]);
  for (const seed of ['host', '10.0.0.8:', '10.0.0.8:0', '10.0.0.8:65536', '10.0.0.8:1:2', '[2001:db8::9]', '[2001:db8::9]:x', '']) {
    t.throws(() => read({ advertise: '10.0.0.7', discovery: { seeds: [seed] } }), { code: 'WEFT-CONFIG', message: /give addresses such as/ }, seed);
  }
  t.end();
});

test('the hash table knows IPv4 only', (t) => {
  t.same(read({ advertise: '10.0.0.7', discovery: { dht: { bootstrap: ['10.0.0.8'] } } }).discovery.dht, { port: 7951, bootstrap: [{ host: '10.0.0.8', port: 7951 }] });
  t.throws(() => read({ advertise: '10.0.0.7', discovery: { dht: { bootstrap: ['2001:db8::8'] } } }), { code: 'WEFT-CONFIG', message: /IPv4/ });
  t.throws(() => read({ advertise: '2001:db8::7', discovery: { dht: {} } }), { code: 'WEFT-CONFIG', message: /IPv4 addresses only/ });
  t.end();
});
