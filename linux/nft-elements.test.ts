import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test, type Test } from 'tap';
import { addressSet, backendMap, openElements, portMap, type Elements } from './nft-elements.ts';
import { TransactionError } from './nfnetlink.ts';
import { openNft } from './nft.ts';
import { space, type Space } from './testing.ts';
import type { Nft } from './types.ts';

const inTable = (name: string): { family: 'inet'; table: string; name: string } => ({ family: 'inet', table: 'weft', name });
const ports = portMap(inTable('ports'));
const addresses = addressSet(inTable('addresses'));
const slots = backendMap(inTable('slots'));

const TABLE = `table inet weft {
 map ports { type inet_proto . inet_service : verdict
 }
 set addresses { type ipv4_addr
 }
 map slots { typeof numgen random mod 60 : ip daddr . udp dport
 }
 chain web {
 }
 chain other {
 }
}
`;

function elementSpace(t: Test): Space & { nft: Nft; elements: Elements; shown(name: string): unknown[] } {
  const made = space(t);
  const nft = openNft(made.netns);
  const elements = openElements(made.netns);
  t.teardown(() => {
    elements.close();
    nft.close();
  });
  nft.run(TABLE);
  const shown = (name: string): unknown[] => nft.query('list table inet weft')!
    .map((object) => (object['set'] ?? object['map']) as { name: string; elem?: unknown[] } | undefined)
    .find((object) => object?.name === name)?.elem?.sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b))) ?? [];
  return { ...made, nft, elements, shown };
}

/** What was refused, as position and code. */
function refused(change: () => void): unknown {
  try {
    change();
  } catch (error) {
    if (error instanceof TransactionError) return error.refused.map(({ index, error: { code } }) => [index, code]);
    throw error;
  }
  return undefined;
}

test('elements are as nft understands them, and read back', async (t) => {
  const { elements, nft, shown } = elementSpace(t);
  elements.add(ports, [{ protocol: 'tcp', port: 8080, chain: 'web' }, { protocol: 'udp', port: 53, chain: 'other' }]);
  elements.add(addresses, ['10.0.0.1', '10.0.0.200']);
  elements.add(slots, [{ slot: 5, ip: '10.1.2.3', port: 80 }, { slot: 59, ip: '10.1.2.4', port: 65535 }]);
  t.same(shown('ports'), [[{ concat: ['tcp', 8080] }, { jump: { target: 'web' } }], [{ concat: ['udp', 53] }, { jump: { target: 'other' } }]]);
  t.same(shown('addresses'), ['10.0.0.1', '10.0.0.200']);
  t.same(shown('slots'), [[5, { concat: ['10.1.2.3', 80] }], [59, { concat: ['10.1.2.4', 65535] }]]);
  nft.run('add element inet weft ports { tcp . 9 : drop, icmp . 9 : jump web }\n');
  t.same(elements.list(ports).sort((a, b) => a.port - b.port), [{ protocol: 'udp', port: 53, chain: 'other' }, { protocol: 'tcp', port: 8080, chain: 'web' }], 'foreign ones are left out');
  t.same(elements.list(addresses).sort(), ['10.0.0.1', '10.0.0.200']);
  t.same(elements.list(slots).sort((a, b) => a.slot - b.slot), [{ slot: 5, ip: '10.1.2.3', port: 80 }, { slot: 59, ip: '10.1.2.4', port: 65535 }]);
  t.throws(() => elements.list(addressSet(inTable('absent'))), { code: 'ENOENT' });
});

test('what is there with its value may be added again, with another value not', async (t) => {
  const { elements, shown } = elementSpace(t);
  const add = (chain: string): void => elements.add(ports, [{ protocol: 'tcp', port: 1, chain: 'web' }, { protocol: 'tcp', port: 2, chain }]);
  add('web');
  add('web');
  elements.add(addresses, ['10.0.0.1']);
  elements.add(addresses, ['10.0.0.1', '10.0.0.2']);
  t.same(refused(() => add('other')), [[1, 'EEXIST']]);
  t.same(shown('ports'), [[{ concat: ['tcp', 1] }, { jump: { target: 'web' } }], [{ concat: ['tcp', 2] }, { jump: { target: 'web' } }]]);
});

test('replacing enters, changes and keeps, all at once', async (t) => {
  const { elements, shown } = elementSpace(t);
  elements.add(slots, [{ slot: 0, ip: '10.0.0.1', port: 80 }, { slot: 1, ip: '10.0.0.1', port: 80 }]);
  elements.replace(slots, [{ slot: 1, ip: '10.0.0.2', port: 81 }, { slot: 2, ip: '10.0.0.3', port: 82 }, { slot: 0, ip: '10.0.0.1', port: 80 }]);
  t.same(shown('slots'), [[0, { concat: ['10.0.0.1', 80] }], [1, { concat: ['10.0.0.2', 81] }], [2, { concat: ['10.0.0.3', 82] }]]);
  elements.replace(ports, [{ protocol: 'tcp', port: 80, chain: 'web' }]);
  elements.replace(ports, [{ protocol: 'tcp', port: 80, chain: 'other' }]);
  t.same(shown('ports'), [[{ concat: ['tcp', 80] }, { jump: { target: 'other' } }]]);
});

test('no packet is without its element while it is replaced', async (t) => {
  const { elements, nft, path, run } = elementSpace(t);
  nft.run(`table inet weft {
 chain out { type nat hook output priority -100
  udp dport 7000 dnat ip to numgen random mod 1 offset 5 map @slots
 }
 chain missed { type filter hook output priority 0
  udp dport 7000 counter
 }
}
`);
  const servers = `
    const { createSocket } = require('dgram'); let n = 0;
    for (const port of [7001, 7002]) { const d = createSocket('udp4'); d.on('message', (m, r) => d.send(String(port), r.port, r.address)); d.bind(port, '127.0.0.1', () => ++n === 2 && console.log('up')); }`;
  const server = spawn('ip', ['netns', 'exec', path.split('/').at(-1)!, process.execPath, '-e', servers], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => server.kill('SIGKILL'));
  await once(server.stdout, 'data');
  const ask = (): string => run(process.execPath, '-e', `
    const d = require('dgram').createSocket('udp4'); setTimeout(() => process.exit(1), 3000).unref();
    d.on('message', (m) => { console.log(String(m)); d.close(); }); d.send('?', 7000, '127.0.0.1');`).trim();
  const turnTo = (port: number): void => elements.replace(slots, [{ slot: 5, ip: '127.0.0.1', port }]);
  turnTo(7001);
  t.equal(ask(), '7001');
  turnTo(7002);
  t.equal(ask(), '7002', 'the number is in the order the kernel counts in');

  const sender = spawn('ip', ['netns', 'exec', path.split('/').at(-1)!, process.execPath, '-e', `
    const { createSocket } = require('dgram'); let n = 0; console.log('up');
    const next = () => { if (n++ === 2000) return; const d = createSocket('udp4'); d.send('?', 7000, '127.0.0.1', () => d.close(next)); }; next();`], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(sender.stdout, 'data');
  let over = false;
  void once(sender, 'exit').then(() => (over = true));
  for (let i = 0; !over; i++) {
    turnTo(7001 + (i & 1));
    await new Promise(setImmediate);
  }
  t.match(run('nft', 'list', 'chain', 'inet', 'weft', 'missed'), /counter packets 0 /);
});

test('one that is refused takes all others with it, and each refusal is told', async (t) => {
  const { elements, shown } = elementSpace(t);
  elements.add(ports, [{ protocol: 'tcp', port: 1, chain: 'web' }]);
  const change = [{ protocol: 'tcp', port: 1, chain: 'other' }, { protocol: 'tcp', port: 2, chain: 'absent' }, { protocol: 'tcp', port: 3, chain: 'web' }, { protocol: 'tcp', port: 4, chain: 'absent' }] as const;
  t.same(refused(() => elements.replace(ports, change)), [[1, 'ENOENT'], [3, 'ENOENT']]);
  t.same(shown('ports'), [[{ concat: ['tcp', 1] }, { jump: { target: 'web' } }]]);
  t.throws(() => elements.add(ports, change), { name: 'KernelError', code: 'EEXIST', message: /change the elements of inet weft ports/ });
  t.same(refused(() => elements.add(addressSet(inTable('ports')), ['10.0.0.1'])), [[0, 'EINVAL']], 'of another kind');
  t.throws(() => elements.add(ports, [{ protocol: 'tcp', port: 1, chain: 'x'.repeat(500) }]), { code: 'ERANGE' });
});

test('removing what is not there is not an error', async (t) => {
  const { elements, nft, shown } = elementSpace(t);
  elements.add(ports, [{ protocol: 'tcp', port: 1, chain: 'web' }, { protocol: 'tcp', port: 2, chain: 'web' }]);
  elements.remove(ports, [{ protocol: 'tcp', port: 9 }, { protocol: 'tcp', port: 1 }]);
  elements.remove(ports, [{ protocol: 'tcp', port: 1 }]);
  t.same(shown('ports'), [[{ concat: ['tcp', 2] }, { jump: { target: 'web' } }]]);
  elements.remove(ports, []);
  nft.run('delete table inet weft\n');
  elements.remove(ports, [{ protocol: 'tcp', port: 2 }]);
  t.same(refused(() => elements.replace(ports, [{ protocol: 'tcp', port: 2, chain: 'web' }])), [[0, 'ENOENT']]);
});

test('ten thousand in one transaction; and more refusals than the socket holds are not taken for a later answer', async (t) => {
  const { elements } = elementSpace(t);
  const many = Array.from({ length: 10_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
  elements.add(addresses, many);
  t.equal(elements.list(addresses).length, many.length);
  elements.remove(addresses, [...many, '10.9.9.9']);
  t.same(elements.list(addresses), []);
  const absent = addressSet(inTable('absent'));
  t.throws(() => elements.add(absent, [...many, ...many.map((ip) => ip.replace('10.', '11.'))]), { name: 'KernelError' });
  elements.add(addresses, ['10.0.0.1']);
  t.same(elements.list(addresses), ['10.0.0.1']);
});

test('closed, it is not used', async (t) => {
  const { netns } = space(t);
  const elements = openElements(netns);
  elements.close();
  elements.close();
  t.throws(() => elements.add(addresses, ['10.0.0.1']), { code: 'EBADF' });
  t.throws(() => elements.remove(addresses, ['10.0.0.1']), { code: 'EBADF' });
});
