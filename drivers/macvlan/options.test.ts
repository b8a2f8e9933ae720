import { test } from 'tap';
import { network } from '../testbed.ts';
import { hasParent } from '../stacked/options.ts';
import { macvlanOptions } from './options.ts';

const lan = network('lan', 'macvlan', '192.168.50.0/24');
const of = (options: Record<string, string>, node = 'a') => macvlanOptions({ ...lan, options }, node);

test('what is asked for, by both names, and what is taken otherwise', (t) => {
  t.same(of({}), { parent: undefined, mode: 'bridge', hostAccess: false, probeMs: 200, mtu: undefined });
  t.same(of({ parent: 'eth1', macvlan_mode: 'vepa', 'weft.probe_ms': '0', 'weft.mtu': '1400' }), { parent: 'eth1', mode: 'vepa', hostAccess: false, probeMs: 0, mtu: 1400 });
  t.same(of({ 'weft.parent': 'eth1', 'weft.macvlan_mode': 'private' }), { ...of({}), parent: 'eth1', mode: 'private' });
  t.ok(of({ parent: 'eth1', 'weft.host_access': 'true' }).hostAccess);
  t.equal(of({ parent: '', macvlan_mode: '' }).parent, undefined, 'empty is none');
  t.end();
});

test('each node may call its interface otherwise', (t) => {
  const options = { parent: 'eth1', 'weft.parent.b.example.org': 'eno1' };
  t.equal(of(options).parent, 'eth1');
  t.equal(of(options, 'b.example.org').parent, 'eno1');
  t.ok(hasParent({ options: { 'weft.parent.b': 'eno1' } }));
  t.notOk(hasParent({ options: { parent: '' } }));
  t.end();
});

test('what is refused, and what is named instead', (t) => {
  const refused = (options: Record<string, string>, code: string, message: RegExp): void => void t.throws(() => of(options), { code, message }, JSON.stringify(options));
  refused({ parents: 'eth1' }, 'WEFT-OPTION-UNKNOWN', /nearest known one is parent/);
  refused({ 'weft.host-access': 'true' }, 'WEFT-OPTION-UNKNOWN', /nearest known one is weft\.host_access/);
  refused({ macvlan_mod: 'bridge' }, 'WEFT-OPTION-UNKNOWN', /nearest known one is macvlan_mode/);
  refused({ macvlan_mode: 'l2' }, 'WEFT-OPTION-VALUE', /macvlan_mode cannot be l2; give one of bridge, private, vepa, passthru/);
  refused({ parent: 'eth1', 'weft.host_access': 'yes' }, 'WEFT-OPTION-VALUE', /true or false/);
  refused({ parent: 'eth1', macvlan_mode: 'private', 'weft.host_access': 'true' }, 'WEFT-OPTION-VALUE', /mode bridge/);
  refused({ 'weft.host_access': 'true' }, 'WEFT-OPTION-VALUE', /needs a parent/);
  refused({ 'weft.probe_ms': '1s' }, 'WEFT-OPTION-VALUE', /up to 7000/);
  refused({ 'weft.probe_ms': '7001' }, 'WEFT-OPTION-VALUE', /up to 7000/);
  refused({ 'weft.mtu': '10' }, 'WEFT-OPTION-VALUE', /from 576/);
  t.end();
});
