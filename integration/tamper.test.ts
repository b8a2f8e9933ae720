//              router ── client 10.99.2.9
//       10.99.1/24 │ 10.99.2/24
//         ┌────────┴────────┐
//       node a            node b          overlay web 10.20.0.0/24 and fd20::/64: a1, b1
//      ┌──┴───┐             │             bridge lan 10.30.0.0/24 and fd30::/64 on node a: l1, l2; l1's port 80 published as 8080
//     a1    l1 l2           b1
//
// The bridge of lan stands in a namespace of its own. Everything of node a's is broken, one thing at a time, while its repair runs as in weftd; then it has to be exactly as before, and in use.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { test } from 'tap';
import { createRepairLoop } from '../agent/repair.ts';
import { systemClock } from '../base/clock.ts';
import { silentLogger } from '../base/log.ts';
import type { Endpoint, Network } from '../cnm/model.ts';
import { createBridgeDriver } from '../drivers/bridge/bridge.ts';
import { watchDisturbances, watchLinks } from '../drivers/disturbances.ts';
import { apartBridge, apartUplink, bridgeEnd, hostBridge, overlayBridge, overlayTunnel } from '../drivers/names.ts';
import { Node } from '../drivers/overlay/testbed.ts';
import { SharedState, Underlay, ask, endpoint, network, plugIn, serve } from '../drivers/testbed.ts';

/** After an event, and where only the next look at everything can find it. */
const EVENT_MS = 1000;
const PERIOD_MS = 1000;
/** What a repair itself takes on a busy machine, and comparing afterwards. */
const SLACK_MS = 1500;
const NEVER_MS = 3_600_000;

const execute = promisify(execFile);

/** Milliseconds that its hypervisor has taken from each processor of this machine so far (steal, proc_stat(5), in hundredths of a second). */
const stolen = (): number[] => readFileSync('/proc/stat', 'utf8').match(/^cpu\d.*$/gm)!.map((line) => 10 * Number(line.split(' ')[8]));

/** How long it is since then, in milliseconds that this machine had: what was taken from the processor that lost most is left out. */
function stopwatch(): () => number {
  const [start, before] = [performance.now(), stolen()];
  return () => performance.now() - start - Math.max(...stolen().map((now, i) => now - before[i]!));
}

const underlay = new Underlay();
const web = network('web', 'overlay', '10.20.0.0/24', { vni: 0x800001, subnets: [{ subnet: '10.20.0.0/24', gateway: '10.20.0.1' }, { subnet: 'fd20::/64', gateway: 'fd20::1' }] });
const lan = network('lan', 'bridge', '10.30.0.0/24', { subnets: [{ subnet: '10.30.0.0/24', gateway: '10.30.0.1' }, { subnet: 'fd30::/64', gateway: 'fd30::1' }] });
const overlays: Network[] = [web];

const SETTINGS = [
  'net.ipv4.ip_forward', 'net.ipv4.conf.*.rp_filter', 'net.ipv4.conf.*.route_localnet', 'net.ipv4.conf.*.forwarding', 'net.ipv6.conf.*.disable_ipv6', 'net.ipv6.conf.*.forwarding',
  'net.ipv6.conf.*.accept_ra', 'net.ipv6.conf.*.accept_dad', 'net.bridge.bridge-nf-call-*',
].map((pattern) => pattern.replaceAll('.', String.raw`\.`).replaceAll('*', '[^.]*')).join('|');

const FACTS = /\b(?:mtu|master|link\/ether|vxlan id|local|dstport|stp_state|mcast_snooping|hairpin|learning|flood|mcast_flood|bcast_flood|isolated|neigh_suppress|locked) \S+|\b(?:nolearning|proxy)\b/g;

const LOOK = `
ip -o -d link; echo ===; ip -o address; echo ===; ip -4 route show table all; ip -6 route show table all; echo ===; ip rule; ip -6 rule; echo ===
ip neigh show nud permanent; bridge fdb show | grep -E 'static|dst'; echo ===; nft --stateless list ruleset; echo ===
sysctl -a --pattern '^(${SETTINGS})$'; for link in $(ip -o link show | grep -oE '((we|wu|wv)-[^@:]*|weft-up|uplink|eth0)'); do tc filter show dev $link ingress; done`;

/** All that a namespace holds, in a form that is the same when the same things were made again. Meanwhile the repair goes on. */
async function snapshot(namespace: string): Promise<string> {
  const { stdout } = await execute('ip', ['netns', 'exec', namespace, 'sh', '-c', LOOK]);
  const [links, addresses, routes, rules, entries, tables, rest] = stdout.split('===\n') as [string, string, string, string, string, string, string];
  const sorted = (text: string): string => text.split('\n').map((line) => line.trim()).filter((line) => line !== '').sort().join('\n');
  return [
    sorted(links.split('\n').map((line) => factsOf(line, namespace.endsWith('-bridges') ? /^w[bu]-/ : /^(?:weft-up|uplink|wv-.*)$/)).join('\n')),
    // What the kernel gives a link by itself is nobody's.
    sorted(addresses.replaceAll(/^\d+: |\\.*$|tentative/gm, '').replaceAll(/^.* fe80:\S*ff:fe\S* .*$/gm, '')),
    sorted(routes.replaceAll(/^(?:local|multicast|anycast) \S*:.*$|^fe80::\/64 .*$/gm, '')),
    sorted(rules), sorted(entries),
    tables.replaceAll(/elements = \{([^}]*)\}/g, (_, items: string) => `elements = { ${items.split(',').map((item) => item.trim()).sort().join(', ')} }`),
    // Programs have the indexes of links in them, which are others when a link was made again.
    sorted(rest.replaceAll(/ id \d+| tag \w+|(?<=weft-\w+\/)\S+/g, '')),
  ].join('\n');
}

/** Of a line of `ip -o -d link`. `random`: links that have another address each time they are made. */
function factsOf(line: string, random: RegExp): string {
  const [, name = ''] = /^\d+: ([^@:]+)/.exec(line) ?? [];
  const facts = [...line.matchAll(FACTS)].map(([fact]) => fact).filter((fact) => !(random.test(name) && fact.startsWith('link/')));
  return [name, /<[^>]*\bUP\b/.test(line) ? 'up' : 'down', ...facts].join(' ');
}

/** `unseen`: the kernel tells nobody, so only the next look at everything finds it. */
interface Mutation { on: 'host' | 'fabric' | 'bridges'; break: string; unseen?: true }

test('every part of a running node\'s kernel state is put back', async (t) => {
  t.teardown(() => underlay.remove());
  const shared = new SharedState();
  const a = new Node(underlay, shared, overlays, 'a', 1, 1);
  const b = new Node(underlay, shared, overlays, 'b', 2, 2);
  const client = underlay.host(9, 2);
  const onLan: Endpoint[] = [];
  const bridges = `${a.space.name}-bridges`;
  const bridge = createBridgeDriver({ host: a.space.netns, path: `/run/netns/${bridges}`, networks: () => [lan], published: new Map(), journal: (_, before) => before, log: silentLogger });
  t.teardown(async () => {
    await bridge.purge();
    bridge.close();
    await Promise.all([a, b].map((node) => node.purge()));
  });
  for (const node of [a, b]) await node.driver.createNetwork(web);
  await bridge.createNetwork(lan);
  const a1 = await a.attach('a1', web, '10.20.0.11', 'fd20::11');
  const b1 = await b.attach('b1', web, '10.20.0.21', 'fd20::21');
  await nextTurn();
  const [l1, l2] = await Promise.all(['l1', 'l2'].map(async (name, i) => {
    const space = underlay.space(name);
    const made = endpoint(name, lan, `10.30.0.1${i}/24`, { addressIpv6: `fd30::1${i}/64` });
    await bridge.createEndpoint(lan, made);
    await plugIn(a.space, space, made, await bridge.join(lan, made));
    onLan.push(made);
    return { space, endpoint: made };
  }));
  await bridge.publish({ ...l1!.endpoint, ports: [{ protocol: 'tcp', hostIp: '', hostPort: 8080, containerPort: 80 }] });
  const server = await serve(l1!.space, 'l1');
  t.teardown(() => server.kill());

  const run = { host: (...command: string[]) => a.space.run(...command), fabric: (...command: string[]) => a.inFabric(...command), bridges: (...command: string[]) => a.space.run('ip', 'netns', 'exec', bridges, ...command) };
  const look = async (): Promise<string> => (await Promise.all([a.space.name, `${a.space.name}-fabric`, bridges].map(snapshot))).join('\n=== next\n');
  const works = (): Record<string, boolean> => ({
    'a1 → b1': a1.container.pings(b1.ip), 'a1 → b1, IPv6': a1.container.pings('fd20::21'), 'a1 → outside': a1.container.pings(client.address), 'host → b1': a.space.pings(b1.ip),
    'l2 → l1': l2!.space.pings('10.30.0.10'), 'l2 → l1, IPv6': l2!.space.pings('fd30::10'), 'client → published port': ask(client.space, `${a.address}:8080`).startsWith('l1'),
  });
  const everything = Object.fromEntries(Object.keys(works()).map((name) => [name, true]));

  const wb = overlayBridge(web.id);
  const wv = overlayTunnel(web.id);
  const we = bridgeEnd(a1.endpoint.id);
  const wbr = hostBridge(lan.id);
  const [br, wu] = [apartBridge(lan.id), apartUplink(lan.id)];
  const port = bridgeEnd(l1!.endpoint.id);
  const remote = b1.endpoint.mac;
  const mutations: Mutation[] = [
    // Links.
    ...['weft-up', wbr].flatMap((link): Mutation[] => [{ on: 'host', break: `ip link del ${link}` }, { on: 'host', break: `ip link set ${link} down` }]),
    ...['uplink', 'weft-in', wb, wv].map((link): Mutation => ({ on: 'fabric', break: `ip link set ${link} down` })),
    ...['weft-in', wb, wv].map((link): Mutation => ({ on: 'fabric', break: `ip link del ${link}` })),
    ...[br, wu].flatMap((link): Mutation[] => [{ on: 'bridges', break: `ip link set ${link} down` }, { on: 'bridges', break: `ip link del ${link}` }]),
    ...['weft-up', wbr].map((link): Mutation => ({ on: 'host', break: `ip link set ${link} mtu 1300`, unseen: true })),
    ...['uplink', 'weft-in', wb, wv, we].map((link): Mutation => ({ on: 'fabric', break: `ip link set ${link} mtu 1300`, unseen: true })),
    { on: 'host', break: `ip link set ${wbr} address 02:00:00:00:00:77`, unseen: true },
    ...['weft-in', wb].map((link): Mutation => ({ on: 'fabric', break: `ip link set ${link} address 02:00:00:00:00:77`, unseen: true })),
    { on: 'fabric', break: `ip link set ${wv} nomaster` },
    { on: 'fabric', break: `ip link set lo down`, unseen: true },
    // Ports.
    { on: 'fabric', break: `ip link set ${we} down`, unseen: true },
    { on: 'bridges', break: `ip link set ${port} down`, unseen: true },
    { on: 'fabric', break: `ip link set ${we} nomaster` },
    ...[port, wu].map((link): Mutation => ({ on: 'bridges', break: `ip link set ${link} nomaster` })),
    ...['learning on', 'isolated on', 'flood off', 'mcast_flood off', 'bcast_flood off', 'hairpin on', 'neigh_suppress on', 'locked on'].map((change): Mutation => ({ on: 'fabric', break: `bridge link set dev ${we} ${change}`, unseen: true })),
    { on: 'fabric', break: `bridge link set dev ${wv} learning on`, unseen: true },
    { on: 'fabric', break: `bridge link set dev ${wv} isolated on`, unseen: true },
    ...[port, wu].map((link): Mutation => ({ on: 'bridges', break: `bridge link set dev ${link} hairpin on`, unseen: true })),
    { on: 'fabric', break: `tc filter del dev ${we} ingress` },
    { on: 'bridges', break: `tc qdisc del dev ${port} clsact` },
    { on: 'host', break: 'tc filter del dev weft-up ingress' }, { on: 'fabric', break: 'tc qdisc del dev uplink clsact' }, { on: 'host', break: 'tc filter del dev eth0 ingress' },
    { on: 'fabric', break: `tc filter del dev ${wv} ingress` }, { on: 'bridges', break: `tc filter del dev ${wu} ingress` },
    { on: 'fabric', break: `ip link set ${wb} type bridge mcast_snooping 1`, unseen: true },
    // Addresses.
    ...['10.255.0.1/32', 'fe80::1/64'].map((address): Mutation => ({ on: 'host', break: `ip address del ${address} dev weft-up` })),
    ...['10.30.0.1/24', 'fd30::1/64'].map((address): Mutation => ({ on: 'host', break: `ip address del ${address} dev ${wbr}` })),
    { on: 'host', break: 'ip address add 10.66.0.1/32 dev weft-up', unseen: true },
    ...['169.254.77.2/32', 'fe80::2/64'].map((address): Mutation => ({ on: 'fabric', break: `ip address del ${address} dev uplink` })),
    ...['10.20.0.1/24', 'fd20::1/64'].map((address): Mutation => ({ on: 'fabric', break: `ip address del ${address} dev ${wb}` })),
    // Routes and rules.
    { on: 'host', break: 'ip route del 169.254.77.2 dev weft-up' }, { on: 'host', break: 'ip route del 10.20.0.0/24 metric 0' }, { on: 'host', break: 'ip route del 10.20.0.0/24 metric 2147483647' },
    { on: 'host', break: 'ip -6 route del fd20::/64' }, { on: 'host', break: 'ip route replace 10.20.0.0/24 dev lo', unseen: true }, { on: 'host', break: 'ip route add 10.77.0.0/16 dev weft-up', unseen: true },
    { on: 'fabric', break: 'ip route del default' }, { on: 'fabric', break: 'ip -6 route del default' }, { on: 'fabric', break: 'ip route del 10.255.0.1' }, { on: 'fabric', break: 'ip route del 10.255.0.2' },
    { on: 'fabric', break: 'ip route flush table 100002' }, { on: 'fabric', break: 'ip -6 route flush table 100002' },
    { on: 'fabric', break: `ip route del ${b1.ip} table 1000` }, { on: 'fabric', break: 'ip -6 route del fd20::21 table 1000' }, { on: 'fabric', break: `ip route replace ${b1.ip} table 1000 dev uplink`, unseen: true },
    ...['ip', 'ip -6'].flatMap((ip): Mutation[] => [{ on: 'fabric', break: `${ip} rule del pref 200` }, { on: 'fabric', break: `${ip} rule del pref 100` }]),
    { on: 'fabric', break: 'ip rule add pref 100 fwmark 0x48000063 lookup 99', unseen: true },
    // Forwarding entries and neighbours.
    { on: 'fabric', break: `bridge fdb del ${remote} dev ${wv} dst ${b.address} self` }, { on: 'fabric', break: `bridge fdb del ${remote} dev ${wv} master` },
    { on: 'fabric', break: `bridge fdb replace ${remote} dev ${wv} dst 10.99.2.77 self static`, unseen: true }, { on: 'fabric', break: `bridge fdb add 02:00:00:00:00:77 dev ${wv} dst ${b.address} self static`, unseen: true },
    { on: 'fabric', break: 'bridge fdb del 02:77:66:00:00:02 dev weft-in dst 10.99.2.2 self' },
    { on: 'fabric', break: `bridge fdb del ${a1.endpoint.mac} dev ${we} master` }, { on: 'bridges', break: `bridge fdb del ${l1!.endpoint.mac} dev ${port} master` },
    { on: 'fabric', break: `ip neigh del ${b1.ip} dev ${wv}` }, { on: 'fabric', break: `ip neigh del fd20::21 dev ${wv}` }, { on: 'fabric', break: `ip neigh replace ${b1.ip} lladdr 02:00:00:00:00:77 dev ${wv} nud permanent`, unseen: true },
    { on: 'fabric', break: 'ip neigh del 10.255.0.2 dev weft-in' }, { on: 'fabric', break: `ip neigh add 10.20.0.77 lladdr 02:00:00:00:00:77 dev ${wv} nud permanent`, unseen: true },
    // Rules of nftables and of iptables.
    // Docker makes its chain again.
    { on: 'host', break: 'nft flush ruleset; iptables -P FORWARD DROP' }, { on: 'fabric', break: 'nft flush ruleset' },
    ...['inet weft-uplink', 'inet weft-bridge'].flatMap((table): Mutation[] => [{ on: 'host', break: `nft delete table ${table}` }, { on: 'host', break: `nft flush table ${table}` }]),
    { on: 'host', break: 'nft flush chain inet weft-uplink guard' }, { on: 'host', break: 'nft flush set inet weft-uplink members' }, { on: 'host', break: `nft 'add element inet weft-uplink members { 192.0.2.1 }'` },
    { on: 'host', break: 'nft flush map inet weft-bridge ports' }, { on: 'host', break: 'nft add rule inet weft-bridge forward drop' },
    { on: 'fabric', break: 'nft delete table inet weft' }, { on: 'fabric', break: 'nft flush chain inet weft forward' }, { on: 'fabric', break: `nft 'add chain inet weft forward { policy accept; }'` },
    { on: 'fabric', break: `nft 'delete element inet weft subnets { 10.20.0.0/24 }'` },
    { on: 'host', break: 'iptables -D FORWARD 1' }, { on: 'host', break: 'iptables -F FORWARD' },
    // Settings: the kernel tells nobody of most.
    ...['net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0', 'net.ipv4.conf.weft-up.route_localnet=0', 'net.ipv4.conf.weft-up.forwarding=0', `net.ipv4.conf.${wbr}.route_localnet=0`, `net.ipv4.conf.${wbr}.forwarding=0`, `net.ipv4.conf.${wbr}.rp_filter=0`, `net.ipv6.conf.${wbr}.disable_ipv6=1`, `net.ipv6.conf.${wbr}.accept_ra=1`]
      .map((setting): Mutation => ({ on: 'host', break: `sysctl -qw ${setting}`, unseen: true })),
    ...['net.ipv4.ip_forward=0', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.weft-in.rp_filter=1', 'net.ipv4.conf.weft-in.forwarding=0', 'net.ipv4.conf.uplink.forwarding=0', `net.ipv4.conf.${wb}.forwarding=0`, `net.ipv4.conf.${wb}.rp_filter=0`, 'net.ipv6.conf.all.forwarding=0', `net.ipv6.conf.${wb}.disable_ipv6=1`, 'net.ipv6.conf.uplink.disable_ipv6=1', 'net.bridge.bridge-nf-call-iptables=1']
      .map((setting): Mutation => ({ on: 'fabric', break: `sysctl -qw ${setting}`, unseen: true })),
    ...['net.bridge.bridge-nf-call-iptables=1', 'net.ipv6.conf.all.disable_ipv6=0'].map((setting): Mutation => ({ on: 'bridges', break: `sysctl -qw ${setting}`, unseen: true })),
  ];

  const errors: string[] = [];
  const startRepairs = (intervalMs: number): () => void => {
    const repairs = createRepairLoop({
      clock: systemClock, intervalMs, log: { ...silentLogger, error: (fields) => void errors.push(JSON.stringify(fields)) },
      passes: [() => a.driver.repair(overlays, a.endpoints), () => bridge.repair([lan], onLan)],
    });
    const stops = [watchDisturbances(a.fabric.rtnl, a.fabric.netns, systemClock, repairs.disturbed), watchDisturbances(a.fabric.hostRtnl, a.space.netns, systemClock, repairs.disturbed), watchLinks(bridge.inside, systemClock, repairs.disturbed), repairs.close];
    return () => stops.forEach((stop) => stop());
  };

  await a.driver.repair(overlays, a.endpoints);
  await bridge.repair([lan], onLan);
  t.match(works(), everything, 'all is well');
  let before = await look();
  t.ok(mutations.length >= 40, `${mutations.length} mutations`);

  for (const unseen of [false, true]) {
    const bound = (unseen ? PERIOD_MS : EVENT_MS) + SLACK_MS;
    await t.test(unseen ? 'what nobody tells, at the next look' : 'what the kernel tells of, at once', async (t) => {
      const stop = startRepairs(unseen ? PERIOD_MS : NEVER_MS);
      t.teardown(stop);
      for (const mutation of mutations.filter((each) => (each.unseen ?? false) === unseen)) {
        const passed = stopwatch();
        run[mutation.on]('sh', '-c', mutation.break);
        let now = await look();
        while (difference(before, now).length > 0 && passed() < bound) {
          await delay(50);
          now = await look();
        }
        t.same(difference(before, now), [], `${mutation.on}: ${mutation.break}: put back after ${passed().toFixed(0)} ms${errors.map((error) => `; ${error}`).join('')}`);
        t.match(works(), everything, 'and in use');
        // What is not put back is told once.
        before = now;
      }
      t.same(errors, [], 'no repair failed');
    });
  }
});

const difference = (before: string, now: string): string[] => {
  const [old, present] = [before.split('\n'), now.split('\n')];
  return [...old.filter((line) => !present.includes(line)).map((line) => `- ${line}`), ...present.filter((line) => !old.includes(line)).map((line) => `+ ${line}`)].slice(0, 6);
};
