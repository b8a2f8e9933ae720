import { test, type Test } from 'tap';
import { openNft } from '../linux/nft.ts';
import { space, type Space } from '../linux/testing.ts';
import { createPortTable, type PortTable, type WantedPort } from './table.ts';

const ports = (...list: [port: number, ...backends: string[]][]): Map<string, WantedPort> =>
  new Map(list.map(([port, ...backends]) => {
    const family = backends[0]!.startsWith('[') ? 6 : 4;
    return [`tcp/${port} ${family}`, { family, protocol: 'tcp', ip: '', port, backends }];
  }));

interface Scene extends Space { table: PortTable; /** Of each transaction. */ scripts: string[]; failNext(): void; again(): PortTable }

function scene(t: Test): Scene {
  const made = space(t);
  const nft = openNft(made.netns);
  t.teardown(() => nft.close());
  const scripts: string[] = [];
  let failures = 0;
  const again = (): PortTable => createPortTable({
    ...nft,
    run: (script) => {
      if (failures-- > 0) throw new Error('no');
      scripts.push(script);
      nft.run(script);
    },
  });
  return { ...made, table: again(), scripts, failNext: () => void (failures = 1), again };
}

const backendsOf = ({ run }: Space, port: number): string[] =>
  [...new Set(Array.from(run('nft', 'list', 'map', 'inet', 'weft-ports', `slots-tcp-${port}`).matchAll(/: ([\d.]+) \. (\d+)/g), ([, ip, number]) => `${ip}:${number}`))].sort();

test('the table follows what is wanted by as little as possible', (t) => {
  const made = scene(t);
  const { table, scripts } = made;
  t.same(table.apply(ports([80, '10.0.0.1:80', '10.0.0.2:80'], [81, '10.0.0.1:81'])), [{ family: 4, protocol: 'tcp', ip: '', port: 80 }, { family: 4, protocol: 'tcp', ip: '', port: 81 }], 'these led nowhere');
  t.same(backendsOf(made, 80), ['10.0.0.1:80', '10.0.0.2:80']);
  scripts.length = 0;
  table.apply(ports([80, '10.0.0.1:80', '10.0.0.2:80'], [81, '10.0.0.1:81']));
  t.same(scripts, [], 'nothing changed, nothing is done');
  t.same(table.apply(ports([80, '10.0.0.1:80', '10.0.0.3:80'], [81, '10.0.0.1:81'])), []);
  t.equal(scripts.length, 1);
  t.notMatch(scripts[0], /10\.0\.0\.1:|tcp-81|flush/, 'other slots, other ports are not touched');
  t.same(backendsOf(made, 80), ['10.0.0.1:80', '10.0.0.3:80']);
  t.same(table.apply(ports([81, '10.0.0.1:81'])), []);
  t.same(backendsOf(made, 81), ['10.0.0.1:81']);
  t.notMatch(made.run('nft', 'list', 'ruleset'), /tcp-80/);
  t.same(table.repair(), []);
  t.end();
});

test('a transaction that fails is made anew as a whole', (t) => {
  const made = scene(t);
  made.table.apply(ports([80, '10.0.0.1:80']));
  made.failNext();
  made.table.apply(ports([80, '10.0.0.2:80']));
  t.same(backendsOf(made, 80), ['10.0.0.2:80']);
  t.same(made.table.repair(), []);
  t.end();
});

test('after a restart the table is this weftd\'s, whatever the one before left', (t) => {
  const made = scene(t);
  t.same(made.table.repair(), [], 'nothing is known yet');
  made.table.apply(ports([80, '10.0.0.1:80'], [81, '10.0.0.1:81']));
  t.same(made.again().apply(ports([80, '10.0.0.2:80'], [82, '10.0.0.2:82'])), [{ family: 4, protocol: 'tcp', ip: '', port: 82 }], 'one of them led somewhere already');
  t.same(backendsOf(made, 80), ['10.0.0.2:80']);
  t.notMatch(made.run('nft', 'list', 'ruleset'), /81/);
  t.end();
});

test('what others change is found and mended', (t) => {
  const made = scene(t);
  const { table, run } = made;
  table.apply(ports([80, '10.0.0.1:80'], [81, '10.0.0.1:81'], [80, '[fd20::1]:80', '[fd20:0:1::2]:8080']));
  const before = run('nft', 'list', 'ruleset');
  for (const change of [
    'flush ruleset', 'delete table inet weft-ports', 'flush chain inet weft-ports prerouting', 'flush chain inet weft-ports service-tcp-80',
    'delete element inet weft-ports ports { tcp . 80 }', 'delete element inet weft-ports slots-tcp-80 { 7 }',
    'delete element inet weft-ports slots-tcp-80 { 7 }; add element inet weft-ports slots-tcp-80 { 7 : 10.0.0.9 . 80 }',
    'delete element inet weft-ports ports6 { tcp . 80 }',
    'delete element inet weft-ports slots-tcp6-80 { 7 }; add element inet weft-ports slots-tcp6-80 { 7 : fd20::9 . 80 }',
    'add rule inet weft-ports output drop', 'add map inet weft-ports more { type inet_service : verdict; }',
  ]) {
    run('nft', change);
    t.match(table.repair(), [{ what: /table of published ports/ }], change);
    t.equal(run('nft', 'list', 'ruleset'), before, change);
    t.same(table.repair(), []);
  }
  t.end();
});
