import { spawnSync } from 'node:child_process';
import { test, type Test } from 'tap';
import { openNft } from './nft.ts';
import { createRuleCheck } from './nft-generation.ts';
import { space, type Space } from './testing.ts';
import type { Nft } from './types.ts';

function nftSpace(t: Test): Space & { nft: Nft } {
  const made = space(t);
  const nft = openNft(made.netns);
  t.teardown(() => nft.close());
  return { ...made, nft };
}

test('a transaction is done whole or not at all, and errors carry nft\'s words', async (t) => {
  const { nft, run } = nftSpace(t);
  nft.run('table inet a {\n chain b {\n }\n}\n');
  t.throws(() => nft.run('add rule inet a b accept\nadd rule inet a nope accept\n'), { code: 'ENOENT', message: /^WEFT-KERNEL: the kernel refused to apply nftables rules: ENOENT .*No such file or directory\nadd rule/ });
  t.throws(() => nft.run('add rule inet a b accept\ncreate table inet a\n'), { code: 'EEXIST' }, 'refused by the kernel');
  t.throws(() => nft.run('add rule inet a b accept\nadd chain inet a x { type nat hook input priority 0; policy drop\n}\nadd rule inet a x masquerade\n'), { code: 'EOPNOTSUPP' });
  t.throws(() => nft.run('add rule inet a b accept\nadd nonsense\n'), { code: 'EINVAL', detail: /syntax error/ }, 'refused by the language');
  t.equal(run('nft', 'list', 'ruleset').replace(/\s+/g, ' '), 'table inet a { chain b { } } ');
  nft.run('delete table inet a\n');
  t.equal(run('nft', 'list', 'ruleset'), '', 'an error leaves nothing in the context either');
});

test('what is there is read as objects', async (t) => {
  const { nft, run } = nftSpace(t);
  t.equal(nft.query('list table inet a'), undefined);
  t.same(nft.query('list ruleset')!.map((object) => Object.keys(object)), [['metainfo']]);
  run('nft', 'add table inet a { map m { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1 }; }; }');
  t.match(nft.query('list table inet a')!.find((object) => object['map']), { map: { name: 'm', elem: [[80, '10.0.0.1']] } }, 'also what others have made');
  run('nft', 'delete table inet a');
  t.equal(nft.query('list table inet a'), undefined);
  t.throws(() => nft.query('list nonsense'), { code: 'EINVAL' });
});

test('interfaces are those of the namespace', async (t) => {
  const { nft, rtnl, run } = nftSpace(t);
  rtnl.addLink({ kind: 'bridge', name: 'only-here' });
  nft.run('table inet a {\n chain b {\n iif "only-here" accept\n }\n}\n');
  t.match(run('nft', 'list', 'ruleset'), /iif "only-here" accept/);
});

test('a brace wants a line or a semicolon before it', async (t) => {
  const { nft, run } = nftSpace(t);
  for (const script of ['table ip a { chain b { accept } }\n', 'table ip a { chain b {\n accept\n } }\n']) t.throws(() => nft.run(script), { code: 'EINVAL', detail: /unexpected '}'/ });
  t.equal(run('nft', 'list', 'ruleset'), '');
  for (const script of ['table ip a { chain b { accept; }; }\n', 'table ip a {\n chain b {\n accept\n }\n}\n']) nft.run(script);
});

test('four fields are the most that a dynamic key takes: five end the process', async (t) => {
  const { path } = space(t);
  const outcome = (types: string, key: string): unknown => {
    const { status, signal, stderr } = spawnSync(process.execPath, ['--input-type=module-typescript', '--no-warnings', '-e', `
      import { openNetns } from '${import.meta.dirname}/netns.ts';
      import { openNft } from '${import.meta.dirname}/nft.ts';
      openNft(openNetns('${path}')).run(\`table ip a {
        map m { type \${'${types}'} : mark; flags dynamic, timeout; timeout 60s; }
        chain b {
          update @m { ${key} : 1 }
        }
      }\ndelete table ip a\n\`);`], { encoding: 'utf8' });
    return { status, signal, stderr };
  };
  t.match(outcome('ipv4_addr . ipv4_addr . inet_proto . inet_service', 'ip saddr . ip daddr . meta l4proto . th dport'), { status: 0 });
  t.match(
    outcome('ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service', 'ip saddr . ip daddr . meta l4proto . th dport . th sport'),
    { signal: 'SIGABRT', stderr: /Assertion/ },
    'when this fails, the library has learnt it, and the limit in nft.ts can go',
  );
});

test('a closed one is not used', async (t) => {
  const { netns } = space(t);
  const nft = openNft(netns);
  nft.close();
  nft.close();
  t.throws(() => nft.run('add table ip a\n'), { code: 'EBADF' });
  t.throws(() => nft.query('list ruleset'), { code: 'EBADF' });
});

test('rules that were right are looked at again only after somebody has changed any', (t) => {
  const { nft, run } = nftSpace(t);
  const check = createRuleCheck(nft);
  let looks = 0;
  const look = (): boolean => {
    looks++;
    return nft.query('list table inet a') !== undefined;
  };
  t.notOk(check(look));
  t.notOk(check(look), 'what is wrong is looked at each time');
  t.equal(looks, 2);
  nft.run('table inet a {\n}\n');
  t.ok(check(look));
  t.ok(check(look));
  t.equal(looks, 3);
  run('nft', 'add table inet b');
  t.ok(check(look), 'another\'s table');
  t.equal(looks, 4);
  run('nft', 'flush ruleset');
  t.notOk(check(look));
  t.equal(looks, 5);
  t.end();
});
