// A wireless interface of this machine, if it has one (`modprobe mac80211_hwsim` makes two).
import { test } from 'tap';
import { systemClock } from '../../base/clock.ts';
import { silentLogger } from '../../base/log.ts';
import { hostNetns } from '../../linux/netns.ts';
import { openRtnl } from '../../linux/rtnl.ts';
import { isWireless } from '../../linux/wireless.ts';
import { createIpvlanDriver } from '../ipvlan/ipvlan.ts';
import type { StackedDriverOptions } from '../stacked/stacked.ts';
import { network } from '../testbed.ts';
import { createMacvlanDriver } from './macvlan.ts';

const options: StackedDriverOptions = {
  host: hostNetns, self: () => ({ id: 'a', name: 'a' }), networks: () => [], hostAddresses: async () => [], releaseHostAddresses: async () => {}, onCarrier: () => {}, clock: systemClock, log: silentLogger,
};

test('wireless parents', async (t) => {
  const rtnl = openRtnl(hostNetns);
  const [card] = rtnl.links().filter(({ name }) => isWireless(hostNetns, name));
  t.notOk(isWireless(hostNetns, 'lo'));
  rtnl.close();
  await t.test('ipvlan is named where macvlan cannot work', { skip: !card && 'this machine has no wireless interface' }, async (t) => {
    const [macvlan, ipvlan] = [createMacvlanDriver(options), createIpvlanDriver(options)];
    t.teardown(() => [macvlan, ipvlan].forEach((driver) => driver.close()));
    const on = (driver: string, parent: string) => network('lan', driver, '192.168.50.0/24', { options: { parent }, scope: 'cluster' });
    for (const parent of [card!.name, `${card!.name}.100`]) {
      t.throws(() => macvlan.validate(on('macvlan', parent)), { code: 'WEFT-PARENT-UNFIT', message: /is wireless, .*; use weft-ipvlan/ }, parent);
    }
    t.doesNotThrow(() => ipvlan.validate(on('ipvlan', card!.name)));
  });
});
