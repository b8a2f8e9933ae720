import { test } from 'tap';
import { silentLogger as log } from '../../base/log.ts';
import { VirtualClock } from '../../base/virtual-clock.ts';
import { weftError } from '../../base/errors.ts';
import type { Endpoint } from '../../cnm/model.ts';
import { createNetns, deleteNetns } from '../../linux/netns.ts';
import { createForgottenEndpoints } from './forgotten-endpoints.ts';

const HOUR_MS = 3_600_000;
const LIMIT_MS = 30_000;

function scene(...ages: number[]) {
  const virtual = new VirtualClock();
  let offset = 0;
  const clock = {
    now: () => virtual.now(), wallNow: () => virtual.wallNow() + offset,
    setTimeout: virtual.setTimeout.bind(virtual), clearTimeout: virtual.clearTimeout.bind(virtual),
  };
  const endpoint = (id: string, ageMs: number, more: Partial<Endpoint> = {}): Endpoint => ({ id, networkId: 'n', mac: '', ports: [], options: {}, createdAt: new Date(clock.wallNow() - ageMs).toISOString(), ...more });
  const present = ages.map((age, i) => endpoint(String(i), age));
  const docker: { list?: string[]; stuck?: string } = {};
  const forgotten = createForgottenEndpoints({
    endpoints: { list: () => [...present] }, isNative: (id) => id === 'native', revoke: async (id) => { if (id === docker.stuck) throw new Error('its ports cannot be closed'); }, clock, log,
    network: (id) => ({ driver: `driver of ${id}` }), listed: async () => docker.list && new Set(docker.list),
    controller: { deleteEndpoint: async (id) => void present.splice(present.findIndex((each) => each.id === id), 1) },
  });
  return {
    ids: () => present.map(({ id }) => id).join(), add: (id: string, more?: Partial<Endpoint>) => void present.push(endpoint(id, 0, more)), remove: () => forgotten.removeOld(LIMIT_MS),
    advance: (ms: number) => virtual.advance(ms), setTimeOfDay: (by: number) => void (offset += by), docker, forgotten,
    /** A request for an address that is in use while any of these endpoints has it. */
    request: async (address: string) => {
      const holder = present.find((each) => each.address === `${address}/24`);
      if (holder) throw weftError('WEFT-ADDRESS-IN-USE', { address, holder: holder.id });
      return 'given';
    },
  };
}

void test('what an earlier weftd made is as old as its date says', async (t) => {
  const { ids, remove, advance } = scene(LIMIT_MS, LIMIT_MS - 1_000);
  await remove();
  t.equal(ids(), '1');
  await advance(1_000);
  await remove();
  t.equal(ids(), '');
});

void test('the time of day is set forward and backward in the middle of a start', async (t) => {
  for (const jump of [HOUR_MS, -HOUR_MS]) {
    const { ids, add, remove, advance, setTimeOfDay } = scene();
    await remove();
    add('starting');
    add('native');
    await remove();
    setTimeOfDay(jump);
    await advance(LIMIT_MS - 1_000);
    await remove();
    t.equal(ids(), 'starting,native');
    await advance(1_000);
    await remove();
    t.equal(ids(), 'native');
  }
});

void test('the time of day was set back while weftd was away', async (t) => {
  const { ids, remove, advance } = scene(-HOUR_MS);
  await remove();
  await advance(LIMIT_MS);
  await remove();
  t.equal(ids(), '');
});

void test('one that cannot be removed does not keep the others', async (t) => {
  const { ids, remove, docker } = scene(LIMIT_MS, LIMIT_MS);
  docker.stuck = '0';
  await remove();
  t.equal(ids(), '0');
  delete docker.stuck;
  await remove();
  t.equal(ids(), '', 'and is tried again');
});

void test('an address that Docker asks for again is given when its holder is surely forgotten', async (t) => {
  const sandbox = `/run/netns/weft-forgotten-${process.pid}`;
  createNetns(sandbox).close();
  t.teardown(() => deleteNetns(sandbox));
  const none = '/run/netns/weft-none';
  const at = (address: string, sandboxPath: string | undefined) => ({ address, ...(sandboxPath !== undefined && { sandbox: sandboxPath }) });
  const { ids, add, docker, forgotten, request } = scene();
  const ask = (address: string) => forgotten.withAddresses('n', [`${address}/24`], () => request(address));

  add('starting', at('10.1.0.2/24', none));
  await t.rejects(ask('10.1.0.2'), { code: 'WEFT-ADDRESS-IN-USE' }, 'Docker says nothing: its sandbox may be on its way');
  docker.list = ['starting'];
  await t.rejects(ask('10.1.0.2'), { code: 'WEFT-ADDRESS-IN-USE' }, 'Docker knows it');
  docker.list = [];
  t.equal(await ask('10.1.0.2'), 'given', 'Docker does not');
  t.equal(ids(), '');

  add('running', at('10.1.0.3/24', sandbox));
  add('leaving', at('10.1.0.4/24', undefined));
  add('native', at('10.1.0.5/24', none));
  add('elsewhere', { ...at('10.1.0.6/24', none), networkId: 'm' });
  for (const last of [3, 4, 5, 6]) await t.rejects(ask(`10.1.0.${last}`), { code: 'WEFT-ADDRESS-IN-USE' });
  delete docker.list;
  forgotten.daemonStarted('driver of m');
  await t.rejects(ask('10.1.0.4'), { code: 'WEFT-ADDRESS-IN-USE' }, 'a dockerd that uses another driver for the first time is no other dockerd');
  forgotten.daemonStarted('driver of n');
  t.equal(await ask('10.1.0.4'), 'given', 'of an earlier dockerd');
  for (const last of [3, 5, 6]) await t.rejects(ask(`10.1.0.${last}`), { code: 'WEFT-ADDRESS-IN-USE' });
  t.equal(ids(), 'running,native,elsewhere');
  await t.rejects(forgotten.withAddresses('n', [], () => Promise.reject(new Error('another'))), /another/);
});

void test('a network that Docker deletes takes the endpoints along that Docker forgot', async (t) => {
  const { ids, add, forgotten } = scene();
  add('of-docker');
  add('elsewhere', { networkId: 'm' });
  add('native');
  await forgotten.removeOn('n');
  t.equal(ids(), 'elsewhere,native');
});
