//   [sandbox]  client → 127.0.0.11:53 ┬ nft, priority -110 → the resolver under test ┐
//                                     └ iptables nat, -100 → fake Docker resolver  ←┘
import { test } from 'tap';
import { space } from '../linux/testing.ts';
import { BACK, docker, get, getTcp, sandboxOf, scene, WEB } from './scene-for-tests.ts';
import { A, fakeUpstream, type Reactions } from './testing.ts';

test('names of the sandbox\'s networks, and what only Docker knows, over UDP and TCP', async (t) => {
  const at = space(t);
  const server = docker(t, at, (name) => ({
    outside: [A(name, '93.184.216.34')], bridged: [A(name, '172.18.0.5')], early: [A(name, '10.192.4.9')], c1: [A(name, '6.6.6.6')],
  } as Record<string, ReturnType<Reactions>>)[name] ?? { rcode: 3 });
  t.equal(await get(at, 'outside'), '93.184.216.34', 'Docker\'s rules work');

  const { resolver, put, names } = scene(t);
  put(WEB, 'c1', '10.192.4.2');
  put(BACK, 'c2', '10.192.5.2');
  await resolver.attach(sandboxOf(at, WEB));
  t.same(resolver.attached(), [at.path]);
  t.equal(await get(at, 'c1'), '10.192.4.2');
  t.equal(await get(at, 'C1.Web'), '10.192.4.2');
  t.equal(await getTcp(at, 'c1.web'), '10.192.4.2');
  t.equal(await get(at, '2.4.192.10.in-addr.arpa', 'PTR'), 'c1.web');
  t.equal(await get(at, 'c1', 'AAAA'), '');
  t.equal(server.queries.filter(({ name }) => /c1|arpa/.test(name)).length, 0, 'Docker was not asked about these');
  t.equal(await get(at, 'c2'), 'NXDOMAIN', 'a name of a network we are not on');
  t.equal(await get(at, 'c2.back'), 'NXDOMAIN');
  t.equal(await get(at, '2.5.192.10.in-addr.arpa', 'PTR'), 'NXDOMAIN');
  t.equal(await get(at, 'early'), 'NXDOMAIN', 'Docker\'s answers inside our subnets do not count');
  t.equal(await get(at, 'outside'), '93.184.216.34');
  t.equal(await getTcp(at, 'outside'), '93.184.216.34');
  t.equal(await getTcp(at, 'early'), 'NXDOMAIN');
  t.equal(await get(at, 'bridged'), '172.18.0.5');

  await resolver.attach(sandboxOf(at, WEB, BACK));
  t.equal(await get(at, 'c2'), '10.192.5.2', 'after it joined another network');
  await resolver.attach(sandboxOf(at, BACK));
  t.equal(await get(at, 'c1'), '6.6.6.6', 'after it left the first');
  names.remove(BACK.id, 'e-10.192.5.2');
  t.equal(await get(at, 'c2'), 'NXDOMAIN');
  t.match(resolver.stats(), { answered: 5, nodata: 1, discarded: 2, timeout: 0 });

  resolver.detach(at.path);
  resolver.detach(at.path);
  t.same(resolver.attached(), []);
  t.equal(await get(at, 'early'), '10.192.4.9', 'Docker\'s resolver again');
  t.equal(await getTcp(at, 'early'), '10.192.4.9');
});

test('thousands of questions at once', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '93.184.216.34')]);
  const { resolver, put } = scene(t);
  for (let i = 0; i < 100; i++) put(WEB, `c${i}`, `10.192.4.${i + 1}`);
  await resolver.attach(sandboxOf(at, WEB));
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => get(at, i % 2 ? `c${i}` : `outside${i}`)));
    t.same(answers, Array.from({ length: 100 }, (_, i) => (i % 2 ? `10.192.4.${i + 1}` : '93.184.216.34')));
  }
});

test('without Docker\'s resolver: the host\'s name servers, from the host\'s namespace', async (t) => {
  const server = `127.78.${process.pid & 255}.1`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '93.184.216.34')]);
  const { resolver, put } = scene(t, () => [server]);
  put(WEB, 'c1', '10.192.4.2');
  const [open, closed] = [space(t), space(t)];
  await resolver.attach(sandboxOf(open, WEB));
  await resolver.attach(sandboxOf(closed, { ...WEB, internal: true }));
  t.equal(await get(open, 'c1'), '10.192.4.2');
  t.equal(await get(open, 'outside'), '93.184.216.34');
  t.equal(await getTcp(open, 'outside'), '93.184.216.34');
  t.equal(await get(closed, 'c1'), '10.192.4.2');
  t.equal(await get(closed, 'secret'), 'SERVFAIL');
  t.notOk(upstream.queries.includes('secret'), 'nothing of an internal sandbox leaves');
});

test('on a LAN alone: Docker\'s resolver is asked, what it says about the LAN counts, and the host\'s name servers are left alone', async (t) => {
  const server = `127.78.${process.pid & 255}.2`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '6.6.6.6')]);
  const at = space(t);
  const local = docker(t, at, (name, type) => (type === 'PTR' ? [{ type: 'PTR', name, data: 'c1.lan', ttl: 600 }] : name === 'nobody' ? { rcode: 3 } : [A(name, name === 'printer' ? '192.168.50.9' : '93.184.216.34')]));
  const { resolver } = scene(t, () => [server]);
  await resolver.attach(sandboxOf(at, { id: 'n-lan', name: 'lan', subnets: ['192.168.50.0/24'], shared: true, internal: false }));
  t.equal(await get(at, 'outside'), '93.184.216.34');
  t.equal(await get(at, 'nobody'), 'NXDOMAIN');
  t.equal(await get(at, 'printer'), '192.168.50.9');
  t.same(upstream.queries, []);
  const asked = (name: string): number => local.queries.filter((each) => each.name === name).length;
  for (let i = 0; i < 2; i++) {
    await get(at, 'outside');
    await get(at, 'printer');
    await get(at, '9.50.168.192.in-addr.arpa', 'PTR');
    await get(at, '34.216.184.93.in-addr.arpa', 'PTR');
  }
  t.same(['outside', '34.216.184.93.in-addr.arpa', 'printer', '9.50.168.192.in-addr.arpa'].map(asked), [1, 1, 3, 2], 'what Docker says about the LAN is not kept');
});

test('what a container makes for itself leads to nobody\'s network: an internal one stays closed', async (t) => {
  const at = space(t);
  const beyond = space(t);
  const local = docker(t, at, (name) => [A(name, '93.184.216.34')]);
  const server = `127.78.${process.pid & 255}.4`;
  const upstream = await fakeUpstream(t, server, 53, (name) => [A(name, '6.6.6.6')]);
  const { resolver, put } = scene(t, () => [server]);
  put(WEB, 'c1', '10.192.4.2');
  const own = at.rtnl.addLink({ kind: 'veth', name: 'own0', peer: { name: 'own1', netns: beyond.netns } });
  at.rtnl.setLink(own, { up: true });
  const closed = { path: at.path, networks: [{ ...WEB, internal: true }] };
  for (const elsewhere of [false, undefined]) {
    await resolver.attach({ ...closed, elsewhere });
    t.equal(await get(at, 'secret.example'), 'SERVFAIL', `elsewhere: ${elsewhere}`);
    t.equal(await get(at, 'c1'), '10.192.4.2');
  }
  t.same([local.queries, upstream.queries], [[], []], 'nobody was asked');
  await resolver.attach({ ...closed, elsewhere: true });
  t.equal(await get(at, 'neighbour'), '93.184.216.34', 'on a network of Docker\'s own as well, Docker is');
  await resolver.attach({ ...closed, elsewhere: false });
  t.equal(await get(at, 'neighbour'), 'SERVFAIL', 'and not after it has left that');
});
test('whoever listens hears of every query, also of those answered in remembered bytes; sources are timed', async (t) => {
  const at = space(t);
  docker(t, at, (name) => [A(name, '93.184.216.34')]);
  const { resolver, names } = scene(t);
  names.put({ networkId: 'n-web', networkName: 'web', endpointId: 'e', ip: '10.192.4.2', name: 'c1', names: [], service: 'c1' });
  await resolver.attach(sandboxOf(at, WEB));
  await get(at, 'c1');
  const heard: string[] = [];
  resolver.listen({ wants: (path) => path === at.path, heard: (path, { name, type, transport, from, rcode }) => void heard.push([path === at.path, name, type, transport, from, rcode].join(' ')) });
  for (let i = 0; i < 2; i++) await get(at, 'c1');
  for (let i = 0; i < 2; i++) await get(at, 'outside');
  await getTcp(at, 'c1');
  t.same(heard, ['true c1 1 udp containers 0', 'true c1 1 udp containers 0', 'true outside 1 udp docker 0', 'true outside 1 udp cache 0', 'true c1 1 tcp containers 0']);
  resolver.listen(undefined);
  await get(at, 'c1');
  t.equal(heard.length, 5);
  const { containers, cache, docker: asked } = resolver.latencies();
  t.same([cache.count, asked.count], [1, 1]);
  t.ok(containers.count >= 4 && containers.sum > 0, JSON.stringify(containers));
  t.match(await resolver.trace(at.path, 'c1', 'A'), { rcode: 'NOERROR', answers: ['c1 5 A 10.192.4.2'], from: 'containers' });
  await t.rejects(resolver.trace('/run/netns/nowhere', 'c1', 'A'), { code: 'WEFT-DNS-ABSENT' });
});
