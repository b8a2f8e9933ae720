import { test } from 'tap';
import { network } from '../testbed.ts';
import { ipvlanOptions } from './options.ts';

const lan = network('lan', 'ipvlan', '192.168.50.0/24');
const of = (options: Record<string, string>, node = 'a') => ipvlanOptions({ ...lan, options }, node);

test('what is asked for, by both names, and what is taken otherwise', (t) => {
  t.same(of({}), { parent: undefined, mode: 'l2', flag: 'bridge', hostAccess: false, probeMs: 200, mtu: undefined });
  t.same(of({ parent: 'eth1', ipvlan_mode: 'l3', ipvlan_flag: 'vepa' }), { ...of({}), parent: 'eth1', mode: 'l3', flag: 'vepa' });
  t.same(of({ 'weft.parent.b': 'eth2', 'weft.ipvlan_mode': 'l3s', 'weft.ipvlan_flag': 'private' }, 'b'), { ...of({}), parent: 'eth2', mode: 'l3s', flag: 'private' });
  t.ok(of({ parent: 'eth1', 'weft.host_access': '1' }).hostAccess);
  t.end();
});

test('what is refused, and what is named instead', (t) => {
  const refused = (options: Record<string, string>, code: string, message: RegExp): void => void t.throws(() => of(options), { code, message }, JSON.stringify(options));
  refused({ macvlan_mode: 'bridge' }, 'WEFT-OPTION-UNKNOWN', /nearest known one is ipvlan_mode/);
  refused({ ipvlan_mode: 'bridge' }, 'WEFT-OPTION-VALUE', /ipvlan_mode cannot be bridge; give one of l2, l3, l3s/);
  refused({ ipvlan_flag: 'l2' }, 'WEFT-OPTION-VALUE', /ipvlan_flag cannot be l2; give one of bridge, private, vepa/);
  for (const options of [{ parent: 'eth1', ipvlan_mode: 'l3' }, { parent: 'eth1', ipvlan_flag: 'vepa' }, {}]) refused({ ...options, 'weft.host_access': 'true' }, 'WEFT-OPTION-VALUE', /mode l2 and the flag bridge/);
  t.end();
});
