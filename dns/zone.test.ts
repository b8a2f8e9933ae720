import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { test } from 'tap';
import { ipToBytes } from '../base/ip.ts';
import type { NameRecord } from '../cluster/state.ts';
import { findAddresses, findName, findServices } from './lookup.ts';
import { createNameTable, type NameTable } from './zone.ts';

const record = (networkId: string, endpointId: string, ip: string, name: string, ...names: string[]): NameRecord =>
  ({ networkId, networkName: networkId, endpointId, ip, name, names: [name, ...names], service: name });

/** Those of IPv4. */
const of = (table: NameTable, networkId: string, name: string): readonly string[] => table.addresses(networkId, name)?.[4] ?? [];

test('names lead to addresses, addresses to the primary name', async (t) => {
  const table = createNameTable();
  table.put(record('n1', 'e1', '10.0.0.1', 'Web', 'web-alias', 'shared'));
  table.put(record('n1', 'e2', '10.0.0.2', 'db', 'Shared'));
  table.put(record('n2', 'e3', '10.1.0.1', 'web'));
  t.same(of(table, 'n1', 'WEB'), ['10.0.0.1']);
  t.same(of(table, 'n1', 'web-alias'), ['10.0.0.1']);
  t.same(of(table, 'n1', 'shared'), ['10.0.0.1', '10.0.0.2']);
  t.same(of(table, 'n2', 'web'), ['10.1.0.1']);
  t.same(of(table, 'n3', 'web'), []);
  t.equal(table.nameOf('n1', '10.0.0.1'), 'Web', 'as the user wrote it');
  t.equal(table.nameOf('n2', '10.0.0.1'), undefined);

  table.put(record('n1', 'e1', '10.0.0.9', 'renamed', 'shared'));
  t.same(of(table, 'n1', 'web'), [], 'a renamed container is known by its new name only');
  t.same(of(table, 'n1', 'shared'), ['10.0.0.2', '10.0.0.9']);
  t.equal(table.nameOf('n1', '10.0.0.1'), undefined);
  table.remove('n1', 'e1');
  table.remove('n1', 'e1');
  t.same(of(table, 'n1', 'shared'), ['10.0.0.2']);
});

test('an address that moves belongs to the later endpoint, whatever the order of the removal', async (t) => {
  const table = createNameTable();
  table.put(record('n1', 'old', '10.0.0.1', 'c1'));
  table.put(record('n1', 'new', '10.0.0.1', 'c2', 'c1'));
  t.same(of(table, 'n1', 'c1'), ['10.0.0.1'], 'without duplicates');
  t.equal(table.nameOf('n1', '10.0.0.1'), 'c2');
  table.remove('n1', 'old');
  t.same(of(table, 'n1', 'c1'), ['10.0.0.1']);
  t.equal(table.nameOf('n1', '10.0.0.1'), 'c2');
});

test('after any history the table says what the live records say', async () => {
  const step = fc.record({
    network: fc.constantFrom('n1', 'n2'), endpoint: fc.constantFrom('a', 'b', 'c'), put: fc.boolean(),
    ip: fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.3'), names: fc.array(fc.constantFrom('X', 'x', 'y', 'z', ''), { minLength: 1, maxLength: 4 }),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
    const table = createNameTable();
    const live = new Map<string, NameRecord>();
    for (const { network, endpoint, put, ip, names } of steps) {
      const next = record(network, endpoint, ip, ...(names as [string, ...string[]]));
      if (put) table.put(next);
      else table.remove(network, endpoint);
      live.delete(network + endpoint);
      if (put) live.set(network + endpoint, next);
      for (const id of ['n1', 'n2']) {
        const here = [...live.values()].filter(({ networkId }) => networkId === id);
        for (const name of ['x', 'y', 'z', '']) {
          const expected = name === '' ? [] : here.filter((each) => each.names.some((text) => text.toLowerCase() === name)).map((each) => each.ip);
          assert.deepEqual(new Set(of(table, id, name)), new Set(expected));
          assert.equal(of(table, id, name).length, new Set(expected).size);
        }
        for (const each of ['10.0.0.1', '10.0.0.2', '10.0.0.3']) assert.equal(table.nameOf(id, each), here.findLast((other) => other.ip === each)?.name);
      }
    }
  }), { numRuns: 300 });
});

test('the order in which names are looked for', async (t) => {
  const table = createNameTable();
  const networks = ['web', 'Back.End', 'c', 'b.c'].map((name) => ({ id: `id-${name}`, name, suffix: name.toLowerCase() }));
  const find = (name: string): string => (findAddresses(table, networks, name, [4])?.ips ?? []).join(' ');
  table.put(record('id-web', 'e1', '10.0.0.1', 'c1'));
  table.put(record('id-Back.End', 'e2', '10.1.0.1', 'c1'));
  table.put(record('id-Back.End', 'e3', '10.1.0.2', 'only'));
  table.put(record('id-elsewhere', 'e4', '10.9.0.1', 'stranger'));
  t.equal(find('c1'), '10.0.0.1', 'the first network that has it');
  t.equal(find('only'), '10.1.0.2');
  t.equal(find('c1.back.end'), '10.1.0.1', 'a network\'s name may have dots, and compares without case');
  t.equal(find('only.web'), '');
  t.equal(find('stranger'), '', 'not of a network we are on');
  t.equal(find('stranger.elsewhere'), '');
  t.equal(find(''), '');
  t.equal(find('.'), '');
  t.equal(find('web'), '');

  table.put(record('id-b.c', 'e5', '10.3.0.1', 'a'));
  t.equal(find('a.b.c'), '10.3.0.1');
  table.put(record('id-c', 'e6', '10.2.0.1', 'a.b'));
  t.equal(find('a.b.c'), '10.2.0.1', 'split from the right');
  table.put(record('id-web', 'e7', '10.0.0.7', 'a.b.c'));
  t.equal(find('a.b.c'), '10.0.0.7', 'the whole name first');
});

test('reverse names', async (t) => {
  const table = createNameTable();
  table.put(record('id-web', 'e1', '10.0.0.1', 'C1'));
  table.put(record('id-other', 'e2', '10.9.0.1', 'c2'));
  const find = (name: string): string | undefined => findName(table, [{ id: 'id-web', name: 'Web', suffix: 'web' }], name);
  t.equal(find('1.0.0.10.in-addr.arpa'), 'C1.Web');
  t.equal(find('2.0.0.10.in-addr.arpa'), undefined);
  t.equal(find('1.0.9.10.in-addr.arpa'), undefined);
  t.equal(find('01.0.0.10.in-addr.arpa'), undefined);
  t.equal(find('1.0.0.in-addr.arpa'), undefined);
  t.equal(find('in-addr.arpa'), undefined);
  t.equal(find('1.0.0.10'), undefined);
});

test('names and addresses of both families', async (t) => {
  const table = createNameTable();
  const networks = ['web', 'six'].map((name) => ({ id: `id-${name}`, name, suffix: name }));
  table.put({ ...record('id-web', 'e1', '10.0.0.1', 'dual'), ip6: 'fd20::1:a' });
  table.put(record('id-web', 'e2', '10.0.0.2', 'four', 'both'));
  table.put(record('id-six', 'e3', 'fd21::3', 'six', 'both'));
  const find = (name: string, ...families: (4 | 6)[]): readonly string[] | undefined => findAddresses(table, networks, name, families)?.ips;
  t.same(find('dual', 4), ['10.0.0.1']);
  t.same(find('dual', 6), ['fd20::1:a']);
  t.same(find('dual', 4, 6), ['10.0.0.1', 'fd20::1:a']);
  t.same(find('four', 6), [], 'known, and without such addresses');
  t.same(find('six.six', 4), []);
  t.same(find('both', 6), ['fd21::3'], 'of the network that has some');
  t.equal(find('nobody', 6), undefined);
  const nibbles = (ip: string): string => `${[...Buffer.from(ipToBytes(ip)).toString('hex')].reverse().join('.')}.ip6.arpa`;
  t.equal(findName(table, networks, nibbles('fd20::1:a')), 'dual.web');
  t.equal(findName(table, networks, nibbles('fd20::1:b')), undefined);
  for (const name of ['ip6.arpa', '.ip6.arpa', nibbles('fd20::1:a').slice(2), `0.${nibbles('fd20::1:a')}`, nibbles('fd20::1:a').replace('a', 'x')]) t.equal(findName(table, networks, name), undefined, name);
  table.remove('id-web', 'e1');
  t.equal(find('dual', 6), undefined);
  t.equal(findName(table, networks, nibbles('fd20::1:a')), undefined);
});

test('services: by their own name, and all of them by tasks.NAME', async (t) => {
  const table = createNameTable();
  table.put({ ...record('n1', 'e1', '10.0.0.1', 'shop_api_1'), service: 'shop/api' });
  table.put({ ...record('n1', 'e2', '10.0.0.2', 'shop_api_2'), service: 'shop/API' });
  table.put({ ...record('n1', 'e3', '10.0.0.3', 'lone'), service: 'labelled' });
  t.same(of(table, 'n1', 'api'), ['10.0.0.1', '10.0.0.2']);
  t.same(of(table, 'n1', 'tasks.api'), ['10.0.0.1', '10.0.0.2']);
  t.same(of(table, 'n1', 'Tasks.Labelled'), ['10.0.0.3']);
  t.same(of(table, 'n1', 'tasks.nobody'), []);
  t.equal(table.addresses('n1', 'tasks.'), undefined);
  table.put({ ...record('n1', 'e4', '10.0.0.4', 'tasks.api') });
  t.same(of(table, 'n1', 'tasks.api'), ['10.0.0.4'], 'who is really called that');
  const networks = [{ id: 'n1', name: 'N1', suffix: 'n1' }];
  t.same(findAddresses(table, networks, 'tasks.labelled.n1', [4])?.ips, ['10.0.0.3']);
});

test('those whose health check fails are left out, unless it fails for all', async (t) => {
  const table = createNameTable();
  const put = (endpointId: string, ip: string, unready: boolean): void => table.put({ ...record('n1', endpointId, ip, `c-${endpointId}`, 'api'), ...(unready && { unready }) });
  put('e1', '10.0.0.1', true);
  t.same(of(table, 'n1', 'api'), ['10.0.0.1']);
  put('e2', '10.0.0.2', false);
  put('e3', '10.0.0.3', false);
  t.same(of(table, 'n1', 'api'), ['10.0.0.2', '10.0.0.3']);
  t.same(of(table, 'n1', 'c-e1'), ['10.0.0.1'], 'a name of its own always resolves');
  put('e2', '10.0.0.2', true);
  put('e3', '10.0.0.3', true);
  t.same(of(table, 'n1', 'api').toSorted(), ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  put('e1', '10.0.0.1', false);
  t.same(of(table, 'n1', 'api'), ['10.0.0.1']);
  table.remove('n1', 'e1');
  t.same(of(table, 'n1', 'api').toSorted(), ['10.0.0.2', '10.0.0.3']);
});

test('who listens on a port', async (t) => {
  const table = createNameTable();
  table.put({ ...record('n1', 'e1', '10.0.0.1', 'web1', 'web'), ip6: 'fd00::1', ports: ['tcp/80', 'tcp/443'] });
  table.put({ ...record('n1', 'e2', '10.0.0.2', 'web2', 'web'), ports: ['tcp/80'] });
  table.put({ ...record('n1', 'e3', '10.0.0.3', 'web3', 'web'), ports: ['tcp/80'], unready: true });
  const find = (name: string) => findServices(table, [{ id: 'n0', name: 'other', suffix: 'other' }, { id: 'n1', name: 'Net', suffix: 'net' }], name);
  t.same(find('_80._tcp.web'), [{ target: 'web1.Net', port: 80, priority: 0, addresses: ['10.0.0.1', 'fd00::1'] }, { target: 'web2.Net', port: 80, priority: 0, addresses: ['10.0.0.2'] }]);
  t.same(find('_443._tcp.web.net')?.map(({ target }) => target), ['web1.Net']);
  t.same(find('_80._udp.web'), []);
  for (const name of ['_80._tcp.nobody', '_80._tcp', '_http._tcp.web', '80._tcp.web', 'web']) t.equal(find(name), undefined, name);
});
