/**
 *      router
 *     /   |  \
 *   h1   h2   h3        no Docker; h1 begins the cluster, h2 and h3 join it behind firewalls
 *
 * Each port that is closed is told of, and opened by the very command that was printed.
 */
import tap, { test } from 'tap';
import type { Host } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const PORTS = [['tcp', 7947], ['udp', 7947], ['udp', 4789], ['tcp', 7948], ['tcp', 7949]] as const;

const iptables = (host: Host, ...args: string[]) => host.must(['iptables', ...args]);
/** Of the text that names this port of that host. */
const commandFor = (text: string, host: Host, protocol: string, port: number): string | undefined =>
  new RegExp(`WEFT-PORT-CLOSED: ${protocol.toUpperCase()} ${port} .* of node ${host.name} is closed .* on ${host.name} run \`([^\`]+)\``).exec(text)?.[1];

async function dropByIptables(host: Host): Promise<void> {
  await iptables(host, '-A', 'INPUT', '-i', 'lo', '-j', 'ACCEPT');
  await iptables(host, '-A', 'INPUT', '-m', 'conntrack', '--ctstate', 'ESTABLISHED,RELATED', '-j', 'ACCEPT');
  for (const [protocol, port] of PORTS) await iptables(host, '-A', 'INPUT', '-p', protocol, '--dport', String(port), '-j', 'ACCEPT');
  await iptables(host, '-P', 'INPUT', 'DROP');
}

test('closed ports are told of with the command that opens them', async (t) => {
  const lab = await createLab({ name: 'reach', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];
  t.match((await weft(h1, 'up', '--no-start', '--node-prefix', '10.99.0.0/16')).stderr, /WEFT-NODE-PREFIX: .*10\.99\.1\.0\/24 \(eth0\)/);
  await weftUp(h1, { nodePrefix: '10.77.0.0/24' });
  const { token } = await until('there is a token', () => weftJson<{ token: string }>(h1, 'token'), 20_000);
  await dropByIptables(h2);

  const joined = await weft(h2, 'join', token, '--name', 'h2');
  t.equal(joined.code, 0, joined.stderr);
  t.equal(joined.stderr.trim(), 'h2 → h1: TCP 7947, TCP 7948, TCP 7949, UDP 7947, UDP 4789\nh1 → h2: TCP 7947, UDP 7947, TCP 7948, TCP 7949, UDP 4789', 'all is open: each port, both ways');

  t.match(await h2.must(['ip', '-4', '-o', 'address', 'show', 'weft-up']), ' 10.77.0.2/32 ', 'its own address is of the prefix that the cluster began with');
  await t.test('on the host that joined, with iptables', async (t) => {
    for (const [protocol, port] of PORTS) {
      await iptables(h2, '-D', 'INPUT', '-p', protocol, '--dport', String(port), '-j', 'ACCEPT');
      const { code, stdout } = await weft(h2, 'node', 'probe');
      t.equal(code, 1, `${protocol} ${port}`);
      t.equal((stdout.match(/^!/gm) ?? []).length, 1, `this one and no other: ${stdout}`);
      const command = commandFor(stdout, h2, protocol, port);
      t.equal(command, `iptables -I INPUT -p ${protocol} --dport ${port} -j ACCEPT`);
      if (port === 4789) t.match((await weft(h2, 'status')).stdout, /! WEFT-PORT-CLOSED: UDP 4789 .*containers on h1 do not reach those on h2.*`weft node probe` tries again/);
      await h2.must(['sh', '-c', command!]);
      t.equal((await weft(h2, 'node', 'probe', 'h1')).code, 0, 'the command opened it');
    }
    t.notMatch((await weft(h2, 'status')).stdout, 'WEFT-PORT-CLOSED');
  });

  await t.test('on the host that was there, with nftables', async (t) => {
    for (const line of [
      'table inet filter', 'chain inet filter input { type filter hook input priority 0; policy drop; }', 'rule inet filter input iif lo accept', 'rule inet filter input ct state established,related accept',
      'rule inet filter input tcp dport 7947 accept',
    ]) await h1.must(['nft', `add ${line}`]);
    const { stdout } = await weft(h2, 'node', 'probe');
    for (const [protocol, port] of PORTS.slice(1)) {
      const command = commandFor(stdout, h1, protocol, port);
      t.equal(command, `nft insert rule inet filter input ${protocol} dport ${port} accept`);
      if (port !== 7948) await h1.must(['sh', '-c', command!]);
    }
    const rest = await weft(h1, 'node', 'probe');
    t.match(rest.stdout.match(/^!.*$/gm) ?? [], [/TCP 7948 .* of node h1 is closed to h2/], 'opened, but for the one that was left; h1 finds the same');
  });

  await t.test('a host that could not use the store does not join', async (t) => {
    const refused = await weft(h3, 'join', token, '--name', 'h3');
    t.equal(refused.code, 1);
    t.match(refused.stderr, /WEFT-JOIN-STORE: .* TCP 7948 of 10\.99\.1\.1 is closed to it.* on 10\.99\.1\.1 run `nft insert rule inet filter input tcp dport 7948 accept`/);
    t.equal((await h3.exec(['ls', '/etc/weft', '/var/lib/weft'])).stdout, '', 'nothing is written');
    await h1.must(['sh', '-c', /`([^`]+)`/.exec(refused.stderr)![1]!]);
  });

  await t.test('one that can work in part does, and is told', async (t) => {
    await iptables(h3, '-A', 'INPUT', '-p', 'udp', '--dport', '4789', '-j', 'DROP');
    await iptables(h2, '-I', 'INPUT', '-s', h3.address, '-p', 'tcp', '--dport', '7947', '-j', 'DROP');
    const { code, stdout, stderr } = await weft(h3, 'join', token, '--name', 'h3');
    t.equal(code, 0, stderr);
    t.match(stdout, 'joined');
    t.equal(commandFor(stderr, h3, 'udp', 4789), 'iptables -I INPUT -p udp --dport 4789 -j ACCEPT');
    t.match(stderr, /WEFT-PORT-CLOSED: TCP 7947 .* of node h2 is closed to h3: .*open it on h2: with ufw `ufw allow 7947\/tcp`/, 'of a host that cannot be asked: for each firewall');
    t.match(stderr, /not tried: the way from h2 to h3/);
    t.match((await weft(h1, 'node', 'ls')).stdout, / h3 .* alive/);
  });
});
