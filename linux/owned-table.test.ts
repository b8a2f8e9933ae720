/**
 *   client ──127.0.0.11:53──> output: ours (-310 for UDP, -110 for TCP), then Docker's (nat, -100) ──> a process that answers 'weft' or 'docker'
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test, type Test } from 'tap';
import { sys } from './ffi.ts';
import { openNft } from './nft.ts';
import { dockerDnsPorts } from './nft-docker-dns.ts';
import { hookDns } from './owned-table.ts';
import { script, space, type Space } from './testing.ts';

const DOCKER = { udp: 5001, tcp: 5002 };
const WEFT = { udpPort: 5003, tcpPort: 5004 };

const ANSWER = `
  const answer = (word, udp, tcp, then) => { const d = require('dgram').createSocket('udp4'); d.on('message', (m, r) => d.send(word, r.port, r.address));
    d.bind(udp, '127.0.0.11', () => require('net').createServer((s) => s.end(word)).listen(tcp, '127.0.0.11', then)); };
  answer('docker', 5001, 5002, () => answer('weft', 5003, 5004, () => console.log('up')));`;

const ASK = `
  const d = require('dgram').createSocket('udp4'); setTimeout(() => process.exit(1), 3000).unref();
  d.on('message', (m) => { d.close(); const s = require('net').connect(53, '127.0.0.11'); s.on('data', (w) => console.log(m + ' ' + w)); });
  d.send('?', 53, '127.0.0.11');`;

/** As dockerd sets them up in a container's namespace; its newer form is that of table docker-dns. */
const iptables = (command: string): string => `
  ${command} -t nat -N DOCKER_OUTPUT && ${command} -t nat -N DOCKER_POSTROUTING
  ${command} -t nat -A OUTPUT -d 127.0.0.11 -j DOCKER_OUTPUT && ${command} -t nat -A POSTROUTING -d 127.0.0.11 -j DOCKER_POSTROUTING
  ${command} -t nat -A DOCKER_OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:5001
  ${command} -t nat -A DOCKER_POSTROUTING -s 127.0.0.11 -p udp --sport 5001 -j SNAT --to-source :53
  ${command} -t nat -A DOCKER_OUTPUT -d 127.0.0.11 -p tcp --dport 53 -j DNAT --to-destination 127.0.0.11:5002
  ${command} -t nat -A DOCKER_POSTROUTING -s 127.0.0.11 -p tcp --sport 5002 -j SNAT --to-source :53`;
const NFTABLES = `nft 'table ip docker-dns {
  chain dns-dnat { type nat hook output priority -100; policy accept
    ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:5001
    ip daddr 127.0.0.11 tcp dport 53 counter dnat to 127.0.0.11:5002
  }
}'`;

/** A sandbox in which Docker's resolver and ours listen, and what asks it. */
async function sandbox(t: Test, dockerRules: string): Promise<Space & { ask(): string }> {
  const made = space(t);
  made.run('sh', '-e', '-c', dockerRules);
  const child = spawn('ip', ['netns', 'exec', made.path.split('/').at(-1)!, process.execPath, '-e', ANSWER], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return { ...made, ask: () => made.run(process.execPath, '-e', ASK).trim() };
}

for (const [kind, rules, ports] of [
  ['iptables-nft', iptables('iptables-nft'), DOCKER], ['iptables-legacy', iptables('iptables-legacy'), undefined], ['nftables', NFTABLES, DOCKER],
] as const) {
  test(`our resolver before Docker's (${kind}), and Docker's again`, async (t) => {
    const { netns, ask } = await sandbox(t, rules);
    t.equal(ask(), 'docker docker');
    const hook = hookDns(netns, { tableName: 'weft-dns', ...WEFT });
    t.ok(hook.owned);
    t.equal(ask(), 'weft weft');
    t.same(dockerDnsPorts(netns), ports, 'Docker\'s ports, not ours');
    hook.close();
    hook.close();
    t.equal(ask(), 'docker docker');
  });
}

test('what nft shows of it, and no Docker at all', async (t) => {
  const { netns, run } = space(t);
  const hook = hookDns(netns, { tableName: 'weft-dns', ...WEFT });
  t.teardown(hook.close);
  t.match(run('nft', 'list', 'table', 'ip', 'weft-dns').replace(/\s+/g, ' '), 'flags owner '
    + 'chain out-udp { type filter hook output priority raw - 10; policy accept; oif != "lo" accept '
    + 'ip saddr 127.0.0.11 udp sport 5003 notrack udp sport set 53 ip daddr 127.0.0.11 udp dport 53 notrack udp dport set 5003 } '
    + 'chain out-tcp { type nat hook output priority -110; policy accept; ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:5004 } }');
  t.equal(dockerDnsPorts(netns), undefined);
});

test('nobody else can change, flush or take the table', async (t) => {
  const { netns, run } = space(t);
  const hook = hookDns(netns, { tableName: 'weft-dns', ...WEFT });
  const nft = openNft(netns);
  t.teardown(() => nft.close());
  t.throws(() => nft.run('delete table ip weft-dns\n'), { code: 'EPERM' });
  t.throws(() => nft.run('flush chain ip weft-dns out-udp\n'), { code: 'EPERM' });
  t.throws(() => hookDns(netns, { tableName: 'weft-dns', ...WEFT }), { code: 'EPERM' });
  nft.run('flush ruleset\n');
  run('iptables-nft', '-t', 'nat', '-F');
  t.match(run('nft', 'list', 'ruleset'), /weft-dns/);
  hook.close();
  t.notMatch(run('nft', 'list', 'ruleset'), /weft-dns/);
});

test('a second table takes over without a gap', async (t) => {
  const { netns, ask } = await sandbox(t, iptables('iptables-nft'));
  const old = hookDns(netns, { tableName: 'weft-dns-1', ...WEFT });
  const next = hookDns(netns, { tableName: 'weft-dns-2', ...WEFT });
  t.equal(ask(), 'weft weft');
  old.release();
  t.equal(ask(), 'weft weft');
  old.close();
  t.equal(ask(), 'weft weft');
  next.close();
  t.equal(ask(), 'docker docker');
});

test('killed, we leave Docker\'s resolver behind', async (t) => {
  const { path, ask } = await sandbox(t, iptables('iptables-nft'));
  const holder = spawn(process.execPath, ['--input-type=module-typescript', '--no-warnings', '-e', `
    import { openNetns } from '${import.meta.dirname}/netns.ts';
    import { hookDns } from '${import.meta.dirname}/owned-table.ts';
    hookDns(openNetns('${path}'), ${JSON.stringify({ tableName: 'weft-dns', ...WEFT })}); console.log('held'); setInterval(() => {}, 1000);`], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  t.equal(ask(), 'weft weft');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  t.equal(ask(), 'docker docker');
});

test('without owned tables a plain one is used, removed by close, and replaced where a crash has left it', async (t) => {
  const { netns, run, ask } = await sandbox(t, iptables('iptables-nft'));
  const { sendto } = sys;
  t.teardown(() => void Object.assign(sys, { sendto }));
  Object.assign(sys, {
    // A flag that no kernel knows, in place of the owner's: it refuses as an old one refuses that.
    sendto: (fd: number, data: Buffer, ...rest: [number, number, Buffer, number]) => {
      const named = 'weft-dns\0\0\0\0';
      const flags = data.indexOf(`${named}\x08\0\x02\0\0\0\0\x02`);
      if (flags >= 0) data[flags + named.length + 7] = 0x40;
      return sendto(fd, data, ...rest);
    },
  });
  const crashed = hookDns(netns, { tableName: 'weft-dns', udpPort: 1, tcpPort: 1 });
  t.notOk(crashed.owned);
  const hook = hookDns(netns, { tableName: 'weft-dns', ...WEFT });
  t.notOk(hook.owned);
  t.equal(run('nft', 'list', 'table', 'ip', 'weft-dns').match(/dnat|dport set/g)?.length, 2, 'the old rules are gone');
  t.equal(ask(), 'weft weft');
  hook.close();
  t.equal(ask(), 'docker docker');
  Object.assign(sys, { sendto });
  run('nft', 'add', 'table', 'ip', 'weft-dns');
  const owned = hookDns(netns, { tableName: 'weft-dns', ...WEFT });
  t.ok(owned.owned, 'a plain one that is left does not make us think that the kernel is old');
  owned.close();
  crashed.close();
});

test('refused, it leaves nothing behind; closed, it gives its socket back, and does not wait for the kernel', async (t) => {
  const { path } = space(t);
  t.match(script(`
    import { readdirSync } from 'node:fs';
    import { openNetns } from '$linux/netns.ts';
    import { sys } from '$linux/ffi.ts';
    import { hookDns } from '$linux/owned-table.ts';
    const netns = openNetns('${path}');
    const open = () => readdirSync('/proc/self/fd').length;
    const { close } = sys;
    let synchronous = 0;
    Object.assign(sys, { close: Object.assign((fd) => { synchronous++; return close(fd); }, { async: close.async }) });
    const use = () => hookDns(netns, { tableName: 'weft-dns', udpPort: 1, tcpPort: 1 }).close();
    use();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const before = open();
    for (let i = 0; i < 20; i++) use();
    const name = { tableName: 'x'.repeat(300), udpPort: 1, tcpPort: 1 };
    try { hookDns(netns, name); } catch (error) { console.log(error.code); }
    for (let i = 0; i < 100 && open() > before; i++) await new Promise((resolve) => setTimeout(resolve, 20));
    console.log(open() - before, synchronous);
  `), /^E\w+\n0 0\n$/);
});
