import { test } from 'tap';
import { upstreamsOf } from './network-upstreams.ts';

test('a network\'s own name servers, written as in the configuration', async (t) => {
  const of = (upstreams?: string, ca?: string) => upstreamsOf({ options: { 'weft.mtu': '1400', ...(upstreams !== undefined && { 'weft.dns.upstreams': upstreams }), ...(ca !== undefined && { 'weft.dns.ca': ca }) } });
  t.equal(of(), undefined);
  t.same(of('tls://9.9.9.9#dns.quad9.net,tls://[2620:fe::fe]:8853', '/etc/weft/dns-ca.pem'), {
    servers: [{ address: '9.9.9.9', port: 853, name: 'dns.quad9.net' }, { address: '2620:fe::fe', port: 8853 }], ca: '/etc/weft/dns-ca.pem',
  });
  t.same(of('tls://9.9.9.9'), { servers: [{ address: '9.9.9.9', port: 853 }] });
  for (const text of ['', '9.9.9.9', 'tls://dns.quad9.net', 'tls://9.9.9.9,', 'tls://9.9.9.9, tls://149.112.112.112', 'tls://9.9.9.9:0']) {
    t.throws(() => of(text), { code: 'WEFT-OPTION-VALUE', message: /weft\.dns\.upstreams cannot be .*give name servers such as tls:\/\/9\.9\.9\.9#dns\.quad9\.net/ }, text);
  }
  t.throws(() => of('tls://9.9.9.9', 'dns-ca.pem'), { code: 'WEFT-OPTION-VALUE', message: /weft\.dns\.ca cannot be dns-ca\.pem; give an absolute path/ });
  t.throws(() => of(undefined, '/etc/weft/dns-ca.pem'), { code: 'WEFT-OPTION-VALUE', message: /give weft\.dns\.upstreams, too/ });
});
