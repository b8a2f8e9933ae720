import { test } from 'tap';
import { hostNetns } from './netns.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';
import { space } from './testing.ts';

test('settings are those of the namespace, and the value before is returned', async (t) => {
  const { netns, run } = space(t);
  const host = readSysctl(hostNetns, 'net.ipv4.ip_forward');
  const before = readSysctl(netns, 'net.ipv4.ip_forward')!;
  const other = before === '0' ? '1' : '0';
  t.equal(writeSysctl(netns, 'net.ipv4.ip_forward', other), before);
  t.equal(readSysctl(netns, 'net/ipv4/ip_forward'), other);
  t.equal(run('cat', '/proc/sys/net/ipv4/ip_forward').trim(), other);
  t.equal(readSysctl(hostNetns, 'net.ipv4.ip_forward'), host, 'the host\'s is as it was');
});

test('interface names may hold dots', async (t) => {
  const { netns, rtnl } = space(t);
  rtnl.addLink({ kind: 'bridge', name: 'br0.100' });
  t.equal(writeSysctl(netns, 'net/ipv4/conf/br0.100/rp_filter', '2'), readSysctl(netns, 'net.ipv4.conf.default.rp_filter'));
  t.equal(readSysctl(netns, 'net.ipv4.conf.br0/100.rp_filter'), '2');
});

test('what has its value is not written, what is not there is not an error, what is refused is', async (t) => {
  const { netns } = space(t);
  const readOnly = 'net.netfilter.nf_conntrack_count';
  t.equal(writeSysctl(netns, readOnly, '0'), '0');
  t.throws(() => writeSysctl(netns, readOnly, '1'), { code: 'EACCES' });
  t.equal(readSysctl(netns, 'net.ipv4.conf.nothing.rp_filter'), undefined);
  t.equal(writeSysctl(netns, 'net.ipv4.conf.nothing.rp_filter', '1'), undefined);
  t.throws(() => writeSysctl(netns, 'net.ipv4.ip_forward', 'many'), { code: 'EINVAL', message: 'set net.ipv4.ip_forward to many: EINVAL' });
});
