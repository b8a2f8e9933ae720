import { test } from 'tap';
import { openNft } from '../linux/nft.ts';
import { space } from '../linux/testing.ts';
import { findFirewalls, openingAdvice } from './reachability-firewall.ts';

const PORT = { protocol: 'udp', port: 4789 } as const;

test('firewalls are known by their rules, and each has its command', (t) => {
  const at = (...setUp: string[][]) => {
    const { netns, run } = space(t);
    for (const [command, ...args] of setUp) run(command!, ...args);
    const nft = openNft(netns);
    const found = findFirewalls(nft, '');
    nft.close();
    return { found, run };
  };
  const nft = (...lines: string[]): string[][] => lines.map((line) => ['nft', line]);

  t.same(at().found, [], 'none');
  t.same(at(...nft('add table inet weft-uplink', 'add chain inet weft-uplink x { type filter hook input priority 0; policy drop; }')).found, [], 'our own rules');
  t.same(at(['iptables', '-P', 'FORWARD', 'DROP'], ['iptables', '-A', 'INPUT', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT']).found, [], 'nothing that comes in is dropped');

  const dropping = nft('add table inet filter', 'add chain inet filter input { type filter hook input priority 0; policy drop; }');
  const { found, run } = at(...dropping);
  t.same(found, [{ kind: 'nftables', chain: 'inet filter input' }]);
  const advice = openingAdvice('h2', found, PORT);
  t.equal(advice, 'on h2 run `nft insert rule inet filter input udp dport 4789 accept`, and keep the rule for the next boot');
  run('sh', '-c', /`(.*)`/.exec(advice)![1]!);
  t.match(run('nft', 'list', 'ruleset'), 'udp dport 4789 accept', 'the command is one that the host takes');

  const policy = at(['iptables', '-P', 'INPUT', 'DROP']);
  t.same(policy.found, [{ kind: 'iptables', program: 'iptables' }], 'by its policy');
  policy.run('sh', '-c', /`(.*)`/.exec(openingAdvice('h2', policy.found, PORT))![1]!);
  t.match(policy.run('iptables', '-S', 'INPUT'), '-A INPUT -p udp -m udp --dport 4789 -j ACCEPT');
  for (const target of ['DROP', 'REJECT']) t.same(at(['iptables', '-A', 'INPUT', '-p', 'udp', '-j', target]).found, [{ kind: 'iptables', program: 'iptables' }], target);
  const both = at(...dropping, ['iptables', '-P', 'INPUT', 'DROP']).found;
  t.equal(both.length, 2);
  t.match(openingAdvice('h2', both, PORT), / && /, 'each has to let it pass');

  t.same(at(['iptables', '-N', 'ufw-user-input'], ['iptables', '-P', 'INPUT', 'DROP']).found, [{ kind: 'ufw' }]);
  t.equal(openingAdvice('h2', [{ kind: 'ufw' }], PORT), 'on h2 run `ufw allow 4789/udp`');
  t.same(at(...nft('add table inet firewalld', 'add chain inet firewalld filter_INPUT { type filter hook input priority 10; }')).found, [{ kind: 'firewalld' }]);
  t.match(openingAdvice('h2', [{ kind: 'firewalld' }], PORT), '`firewall-cmd --permanent --add-port=4789/udp && firewall-cmd --reload`');

  const { netns } = space(t);
  const empty = openNft(netns);
  t.same(findFirewalls(empty, 'nat\nfilter\n'), [{ kind: 'iptables', program: 'iptables-legacy' }]);
  empty.close();
  t.match(openingAdvice('h2', [], PORT), /no firewall was found on h2/);
  t.match(openingAdvice('h2', undefined, PORT), /ufw allow 4789\/udp.*firewall-cmd.*iptables -I INPUT/);
  t.end();
});
