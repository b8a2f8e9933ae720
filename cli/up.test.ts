import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { configure } from './up.ts';

void test('what `up` says about an etcd ends up in the configuration', (t) => {
  const path = join(t.testdir(), 'weft.json');
  const said = (): unknown => (JSON.parse(readFileSync(path, 'utf8')) as { etcd?: unknown }).etcd;
  const first = JSON.stringify({ advertise: '10.0.0.9' });
  writeFileSync(path, first, { mode: 0o600 });

  configure(path, { store: 'https://10.0.0.1:2379,https://10.0.0.2:2379', storeCa: 'ca.pem', storeCert: '/etc/weft.pem', storeKey: '/etc/weft.key' });
  const whole = { endpoints: ['https://10.0.0.1:2379', 'https://10.0.0.2:2379'], ca: resolve('ca.pem'), cert: '/etc/weft.pem', key: '/etc/weft.key' };
  t.same(said(), whole);
  t.equal(statSync(path).mode & 0o77, 0);
  configure(path, { store: 'https://10.0.0.3:2379', name: 'h1' });
  t.same(said(), { ...whole, endpoints: ['https://10.0.0.3:2379'] });
  configure(path, { name: 'h2' });
  t.same(said(), { ...whole, endpoints: ['https://10.0.0.3:2379'] }, 'what is not said stays');
  for (const wrong of [{ store: 'http://10.0.0.3:2379' }, { store: '10.0.0.3:2379' }, { store: 'https://10.0.0.3:2379/v3' }, { store: '' }]) {
    t.throws(() => configure(path, wrong), { code: 'WEFT-CONFIG' });
  }
  t.same(said(), { ...whole, endpoints: ['https://10.0.0.3:2379'] }, 'a refused change is not written');

  const other = join(t.testdirName, 'other.json');
  writeFileSync(other, first);
  for (const incomplete of [{ storeCert: '/etc/weft.pem' }, { storeKey: '/etc/weft.key', store: 'https://10.0.0.1:2379' }]) {
    t.throws(() => configure(other, incomplete), { code: 'WEFT-CONFIG' });
  }
  t.end();
});

void test('what `up` says about finding other nodes', (t) => {
  const path = join(t.testdir(), 'weft.json');
  writeFileSync(path, JSON.stringify({ advertise: '10.0.0.9' }));
  t.same(configure(path, {}).discovery, { seeds: [], multicast: true }, 'by multicast alone, where nothing is said');
  t.same(configure(path, { seeds: '10.0.0.1,10.0.0.2:8000', multicast: false }).discovery, { seeds: [{ host: '10.0.0.1', port: 7947 }, { host: '10.0.0.2', port: 8000 }], multicast: false });
  t.same(configure(path, { seeds: 'fd00::1,[fd00::2]:8000' }).discovery.seeds, [{ host: 'fd00::1', port: 7947 }, { host: 'fd00::2', port: 8000 }]);
  t.same(configure(path, { dht: '10.0.0.1' }).discovery.dht, { port: 7951, bootstrap: [{ host: '10.0.0.1', port: 7951 }] });
  t.same(configure(path, { name: 'h1' }).discovery.dht, { port: 7951, bootstrap: [{ host: '10.0.0.1', port: 7951 }] }, 'what is not said stays');
  t.same(configure(path, { dht: true, seeds: '' }).discovery, { seeds: [], multicast: false, dht: { port: 7951, bootstrap: [{ host: '10.0.0.1', port: 7951 }] } });
  t.same(configure(path, { dht: false }).discovery, { seeds: [], multicast: false });
  for (const wrong of ['host', '10.0.0.1:0', '10.0.0.1:70000', '10.0.0.1:1:1', '10.0.0', '10.0.0.1:x', 'fd00::g', '[fd00::1']) t.throws(() => configure(path, { seeds: wrong }), { code: 'WEFT-CONFIG' }, wrong);
  t.end();
});
