import { test } from 'tap';
import { openNft } from '../linux/nft.ts';
import { space } from '../linux/testing.ts';
import { dropScript, nameOf, type PortAt, serviceScript, slotsScript, tableScript, withdrawScript } from './rules.ts';

const at = (protocol: PortAt['protocol'], port: number, ip = ''): PortAt => ({ family: ip.includes(':') ? 6 : 4, protocol, ip, port });
const SLOTS = ['10.20.0.2:80', '10.20.0.3:8080', '10.20.0.2:80'];
const SLOTS6 = ['[fd20::2]:80', '[fd20::3]:8080'];

test('the text of the rules', (t) => {
  t.equal(tableScript, `
table inet weft-ports {
  map ports { type inet_proto . inet_service : verdict; }
  map ports6 { type inet_proto . inet_service : verdict; }
  map bound { type ipv4_addr . inet_proto . inet_service : verdict; }
  map bound6 { type ipv6_addr . inet_proto . inet_service : verdict; }
  chain raw_prerouting { type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iifname != "lo" drop
  }
  chain prerouting { type nat hook prerouting priority dstnat - 10; policy accept;
    fib daddr type local meta l4proto { tcp, udp, sctp } ip daddr . meta l4proto . th dport vmap @bound
    fib daddr type local meta l4proto { tcp, udp, sctp } ip6 daddr . meta l4proto . th dport vmap @bound6
    meta nfproto ipv4 fib daddr type local meta l4proto { tcp, udp, sctp } meta l4proto . th dport vmap @ports
    meta nfproto ipv6 fib daddr type local meta l4proto { tcp, udp, sctp } meta l4proto . th dport vmap @ports6
  }
  chain output { type nat hook output priority -110; policy accept;
    ip6 daddr ::1 return
    fib daddr type local meta l4proto { tcp, udp, sctp } ip daddr . meta l4proto . th dport vmap @bound
    fib daddr type local meta l4proto { tcp, udp, sctp } ip6 daddr . meta l4proto . th dport vmap @bound6
    meta nfproto ipv4 fib daddr type local meta l4proto { tcp, udp, sctp } meta l4proto . th dport vmap @ports
    meta nfproto ipv6 fib daddr type local meta l4proto { tcp, udp, sctp } meta l4proto . th dport vmap @ports6
  }
}
`);
  t.equal(serviceScript(at('udp', 53), SLOTS), `
table inet weft-ports {
  map slots-udp-53 { typeof numgen random mod 60 : ip daddr . udp dport; }
  chain service-udp-53 { }
}
flush chain inet weft-ports service-udp-53
flush map inet weft-ports slots-udp-53
add element inet weft-ports slots-udp-53 { 0 : 10.20.0.2 . 80, 1 : 10.20.0.3 . 8080, 2 : 10.20.0.2 . 80 }
add rule inet weft-ports service-udp-53 meta nfproto ipv4 meta l4proto udp dnat ip to numgen random mod 60 map @slots-udp-53
add element inet weft-ports ports { udp . 53 : jump service-udp-53 }
`);
  t.equal(slotsScript(at('tcp', 80), SLOTS, ['10.20.0.2:80', '10.20.0.4:80', '10.20.0.4:80']), `delete element inet weft-ports slots-tcp-80 { 1, 2 }
add element inet weft-ports slots-tcp-80 { 1 : 10.20.0.4 . 80, 2 : 10.20.0.4 . 80 }
`);
  t.equal(slotsScript(at('tcp', 80), SLOTS, SLOTS), '', 'no change, no transaction');
  t.equal(withdrawScript(at('tcp', 80)), `delete element inet weft-ports ports { tcp . 80 }
flush chain inet weft-ports service-tcp-80
delete chain inet weft-ports service-tcp-80
delete map inet weft-ports slots-tcp-80
`);
  t.match(serviceScript(at('tcp', 80, '127.0.0.1'), SLOTS), 'add element inet weft-ports bound { 127.0.0.1 . tcp . 80 : jump service-tcp-127.0.0.1-80 }');
  const ofIpv6 = serviceScript(at('tcp', 80, '2001:db8::1'), SLOTS6);
  for (const line of [
    'map slots-tcp6-2001_db8__1-80 { typeof numgen random mod 60 : ip6 daddr . tcp dport; }', '{ 0 : fd20::2 . 80, 1 : fd20::3 . 8080 }',
    'meta nfproto ipv6 meta l4proto tcp dnat ip6 to numgen random mod 60 map @slots-tcp6-2001_db8__1-80', 'bound6 { 2001:db8::1 . tcp . 80 : jump service-tcp6-2001_db8__1-80 }',
  ]) t.match(ofIpv6, line);
  t.end();
});

test('the kernel takes it, one after another and all at once, and is empty again afterwards', (t) => {
  const { netns, run } = space(t);
  const nft = openNft(netns);
  t.teardown(() => nft.close());
  const list = (): string => run('nft', 'list', 'ruleset');
  nft.run(tableScript);
  const bare = list();
  nft.run(serviceScript(at('tcp', 80), SLOTS));
  const one = list();
  nft.run(serviceScript(at('tcp', 80), SLOTS));
  t.equal(list(), one, 'a repeat changes nothing');
  nft.run(serviceScript(at('udp', 80), SLOTS));
  nft.run(`${slotsScript(at('tcp', 80), SLOTS, ['10.20.0.9:80', ...SLOTS.slice(1)])}${withdrawScript(at('udp', 80))}`);
  t.match(list(), /0 : 10\.20\.0\.9 \. 80/);
  nft.run(withdrawScript(at('tcp', 80)));
  for (const other of [at('sctp', 80), at('tcp', 80, '127.0.0.1'), at('sctp', 80, '192.0.2.1')]) {
    nft.run(serviceScript(other, SLOTS));
    t.match(list(), `service-${other.protocol}-${other.ip === '' ? '' : `${other.ip}-`}80`);
    nft.run(slotsScript(other, SLOTS, ['10.20.0.9:80', ...SLOTS.slice(1)]));
    nft.run(withdrawScript(other));
  }
  for (const other of [at('udp', 80, '2001:db8::1'), { ...at('tcp', 80), family: 6 as const }]) {
    nft.run(serviceScript(other, SLOTS6));
    t.match(list(), `jump service-${nameOf(other)}`);
    nft.run(slotsScript(other, SLOTS6, ['[fd20::9]:80', SLOTS6[1]!]));
    t.match(list(), 'fd20::9 . 80');
    nft.run(withdrawScript(other));
  }
  t.equal(list(), bare);
  nft.run(dropScript);
  nft.run(dropScript);
  t.equal(list(), '');
  t.end();
});
