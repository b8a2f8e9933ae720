import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'tap';
import { boundPorts } from './bound-ports.ts';
import { deleteFlowsTo } from './conntrack.ts';
import { createNetns, deleteNetns } from './netns.ts';
import { openNft } from './nft.ts';
import { hookDns } from './nft-owned.ts';
import { openRtnl } from './rtnl.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';
import type { Netns } from './types.ts';

const name = `weft-n-${process.pid}`;
const path = `/run/netns/${name}`;
const inside = (...command: string[]): string => execFileSync('ip', ['netns', 'exec', name, ...command], { encoding: 'utf8' });

/** What Docker leaves in a container's namespace: its resolver's DNAT at -100 (docker: DOCKER_OUTPUT). */
function dockerRules(udpPort: number, tcpPort: number): void {
  inside('iptables', '-t', 'nat', '-A', 'OUTPUT', '-d', '127.0.0.11', '-p', 'udp', '--dport', '53', '-j', 'DNAT', '--to', `127.0.0.11:${udpPort}`);
  inside('iptables', '-t', 'nat', '-A', 'OUTPUT', '-d', '127.0.0.11', '-p', 'tcp', '--dport', '53', '-j', 'DNAT', '--to', `127.0.0.11:${tcpPort}`);
}

/** A process in the namespace that answers every datagram and connection on two ports of 127.0.0.11 with one word. */
async function answerer(word: string, udp: number, tcp: number): Promise<() => void> {
  const code = `
    const d = require('dgram').createSocket('udp4'); d.on('message', (m, r) => d.send('${word}', r.port, r.address)); d.bind(${udp}, '127.0.0.11', () => {
    require('net').createServer((s) => s.end('${word}')).listen(${tcp}, '127.0.0.11', () => console.log('up')); });`;
  const child = spawn('ip', ['netns', 'exec', name, process.execPath, '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return () => void child.kill('SIGKILL');
}

const askCode = `
  const d = require('dgram').createSocket('udp4'); const t = setTimeout(() => process.exit(1), 2000);
  d.on('message', (m) => { d.close(); const s = require('net').connect(53, '127.0.0.11'); s.on('data', (w) => { clearTimeout(t); console.log(m + ' ' + w); s.destroy(); }); s.on('error', () => process.exit(1)); });
  d.send('?', 53, '127.0.0.11');`;
const ask = (): string => inside(process.execPath, '-e', askCode).trim();

test('nftables, sysctls and flows in a namespace', async (t) => {
  const netns: Netns = createNetns(path);
  const rtnl = openRtnl(netns);
  rtnl.setLink(rtnl.link('lo')!.index, { up: true });
  const nft = openNft(netns);
  t.teardown(() => {
    nft.close();
    rtnl.close();
    netns.close();
    deleteNetns(path);
  });

  t.test('a transaction is done whole or not at all, and errors carry nft\'s words', async (t) => {
    nft.run('table inet a {\n chain b { }\n}\n');
    t.throws(() => nft.run('add rule inet a b accept\nadd rule inet a nope accept\n'), { code: 'ENOENT', message: /No such file/ });
    t.notMatch(inside('nft', 'list', 'table', 'inet', 'a'), /accept/);
    t.throws(() => nft.run('add nonsense\n'), { code: 'EINVAL' });
    t.equal(nft.query('list table inet absent'), undefined);
    t.ok(nft.query('list table inet a')!.some((object) => object['chain']));
    for (let i = 0; i < 50; i++) nft.run('add rule inet a b counter accept\nflush chain inet a b\n');
    nft.run('delete table inet a\n');
    t.equal(inside('nft', 'list', 'ruleset'), '');
  });

  t.test('sysctls', async (t) => {
    t.equal(writeSysctl(netns, 'net/ipv4/ip_forward', '1'), '0');
    t.equal(readSysctl(netns, 'net/ipv4/ip_forward'), '1');
    t.equal(inside('cat', '/proc/sys/net/ipv4/ip_forward').trim(), '1', 'that of the namespace');
    t.equal(writeSysctl(netns, 'net/ipv4/conf/nothing/rp_filter', '1'), undefined);
  });

  t.test('our resolver before Docker\'s, for UDP and TCP, and Docker\'s again when we are gone', async (t) => {
    t.teardown(await answerer('docker', 5001, 5002));
    t.teardown(await answerer('weft', 5003, 5004));
    dockerRules(5001, 5002);
    t.equal(ask(), 'docker docker');
    const hook = hookDns(netns, { tableName: 'weft-dns-1', udpPort: 5003, tcpPort: 5004 });
    t.ok(hook.owned);
    t.equal(ask(), 'weft weft');
    t.throws(() => nft.run('delete table ip weft-dns-1\n'), { code: 'EPERM' }, 'nobody else can take it away');
    const next = hookDns(netns, { tableName: 'weft-dns-2', udpPort: 5003, tcpPort: 5004 });
    hook.close();
    t.equal(ask(), 'weft weft', 'handed over to a second table');
    next.close();
    t.equal(ask(), 'docker docker');
    t.same(boundPorts(netns, '127.0.0.11'), { udp: [5001, 5003], tcp: [5002, 5004] }, 'Docker\'s ports can be found');

    const holder = spawn(process.execPath, ['--input-type=module-typescript', '-e', `
      import { openNetns } from '${new URL('./netns.ts', import.meta.url).pathname}';
      import { hookDns } from '${new URL('./nft-owned.ts', import.meta.url).pathname}';
      hookDns(openNetns('${path}'), { tableName: 'weft-dns-3', udpPort: 5003, tcpPort: 5004 }); console.log('held'); setInterval(() => {}, 1000);`], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    t.equal(ask(), 'weft weft');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    t.equal(ask(), 'docker docker', 'after a crash');
  });

  t.test('flows of one backend are forgotten, the others stay', async (t) => {
    nft.run(`table ip n {
 chain out { type nat hook output priority -100; policy accept;
  ip daddr 127.0.0.1 udp dport 7001 dnat to 127.0.0.2:7101
  ip daddr 127.0.0.1 udp dport 7002 dnat to 127.0.0.3:7102
 }
}
`);
    inside(process.execPath, '-e', 'const d = require("dgram").createSocket("udp4"); d.send("x", 7001, "127.0.0.1", () => d.send("x", 7002, "127.0.0.1", () => d.close()));');
    const flows = (): string => inside('conntrack', '-L', '-p', 'udp');
    t.match(flows(), /127\.0\.0\.2/);
    deleteFlowsTo(netns, 'udp', '127.0.0.2', 7101);
    deleteFlowsTo(netns, 'udp', '127.0.0.2', 7101);
    t.notMatch(flows(), /127\.0\.0\.2/);
    t.match(flows(), /127\.0\.0\.3/);
  });
});
