/** Our messages as the npm package netlink reads them, and the kernel's, as it writes them, read by us: two codecs that know nothing of each other. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { AttrStream, ifla, rt } from 'netlink';
import { test, type Test } from 'tap';
import { bytesToIp, bytesToMac, ipToBytes, macToBytes } from '../base/ip.ts';
import { decodeAddress, encodeAddress } from './rtnl-addresses.ts';
import { decodeLink, encodeNewLink, encodeSetLink } from './rtnl-links.ts';
import { decodeNeighbour, encodeFdb, encodeNeighbour } from './rtnl-neighbours.ts';
import { decodeRoute, encodeRoute } from './rtnl-routes.ts';
import { decodeRule, encodeRule } from './rtnl-rules.ts';

const AF_INET = 2;
const AF_BRIDGE = 7;

const ip4 = fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }).map((bytes) => bytes.join('.'));
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(bytesToMac);
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,14}$/);
const index = fc.integer({ min: 1, max: 0x7fffffff });
const mtu = fc.integer({ min: 68, max: 65_535 });
const optionally = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(value, { nil: undefined });
const given = (fields: Record<string, unknown>): object => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

/** One assertion, whatever the number of cases; a failing case prints itself and its seed. */
function holds<T>(t: Test, property: fc.IProperty<T>): void {
  t.doesNotThrow(() => fc.assert(property, { numRuns: 300 }));
}

function written<T>(format: (message: T, out: AttrStream) => void, message: T): Buffer {
  const stream = new AttrStream();
  format(message, stream);
  return Buffer.concat(stream.bufs);
}

const infoOf = (linkinfo: Buffer | undefined): ReturnType<typeof ifla.parseInfo> => ifla.parseInfo(linkinfo ?? Buffer.alloc(0));

test('links that we make', (t) => {
  holds(t, fc.property(name, mtu, mac, index, fc.nat(0xfffffe), ip4, fc.integer({ min: 1, max: 65_535 }), fc.boolean(), (ifname, size, address, master, vni, local, port, up) => {
    const { data, attrs } = rt.parseLinkMessage(encodeNewLink({ kind: 'vxlan', name: ifname, mtu: size, mac: address, master, vni, local, port, up }));
    assert.equal(data.flags?.up ?? false, up);
    assert.partialDeepStrictEqual(attrs, { ifname, mtu: size, master });
    assert.equal(bytesToMac(attrs.address!), address);
    const info = infoOf(attrs.linkinfo);
    assert.equal(info.kind, 'vxlan');
    const vxlan = ifla.parseVxlan(info.data!);
    assert.partialDeepStrictEqual(vxlan, { id: vni, learning: 0, proxy: 0 });
    assert.equal(vxlan.port!.readUInt16BE(0), port);
    assert.equal(bytesToIp(vxlan.local!), local);
  }));
  holds(t, fc.property(name, name, mtu, mac, (here, there, size, address) => {
    const { attrs } = rt.parseLinkMessage(encodeNewLink({ kind: 'veth', name: here, mtu: size, peer: { name: there, mtu: size, mac: address } }));
    const info = infoOf(attrs.linkinfo);
    assert.equal(info.kind, 'veth');
    // VETH_INFO_PEER: an attribute that holds a message of its own.
    const peer = rt.parseLinkMessage(info.data!.subarray(4));
    assert.partialDeepStrictEqual([attrs.ifname, peer.attrs.ifname, peer.attrs.mtu, bytesToMac(peer.attrs.address!)], [here, there, size, address]);
  }));
  t.end();
});

test('changes of links', (t) => {
  holds(t, fc.property(index, optionally(name), optionally(mtu), optionally(fc.boolean()), (at, ifname, size, up) => {
    const { data, attrs } = rt.parseLinkMessage(encodeSetLink(at, { ...(ifname !== undefined && { name: ifname }), ...(size !== undefined && { mtu: size }), ...(up !== undefined && { up }) }));
    assert.equal(data.index, at);
    assert.deepEqual([attrs.ifname, attrs.mtu], [ifname, size]);
    assert.deepEqual([data.flags?.up ?? false, data.change?.up ?? false], [up ?? false, up !== undefined], 'only what is said is changed');
  }));
  t.end();
});

test('links that are told', (t) => {
  holds(t, fc.property(index, name, mtu, mac, optionally(index), fc.boolean(), (at, ifname, size, address, master, up) => {
    const body = written(rt.formatLinkMessage, { kind: 'link', data: { index: at, flags: up ? { up, lowerUp: up } : {} }, attrs: given({ ifname, mtu: size, address: Buffer.from(macToBytes(address)), master }) });
    assert.partialDeepStrictEqual(decodeLink(body), { index: at, name: ifname, mtu: size, mac: address, master, up, carrier: up });
  }));
  t.end();
});

test('addresses', (t) => {
  holds(t, fc.property(index, ip4, fc.nat(32), (at, ip, length) => {
    const { data, attrs } = rt.parseAddressMessage(encodeAddress(at, `${ip}/${length}`));
    assert.partialDeepStrictEqual(data, { family: AF_INET, index: at, prefixlen: length });
    assert.deepEqual([attrs.local, attrs.address].map((each) => bytesToIp(each!)), [ip, ip]);
    const told = written(rt.formatAddressMessage, { kind: 'address', data: { family: AF_INET, index: at, prefixlen: length, scope: 253 }, attrs: { local: Buffer.from(ipToBytes(ip)) } });
    assert.deepEqual(decodeAddress(told), [{ index: at, address: `${ip}/${length}`, scope: 253, protocol: 0 }]);
  }));
  t.end();
});

test('neighbours and forwarding entries', (t) => {
  holds(t, fc.property(index, ip4, mac, (dev, ip, address) => {
    const neighbour = rt.parseNeighborMessage(encodeNeighbour({ dev, ip, mac: address }));
    assert.partialDeepStrictEqual(neighbour.data, { family: AF_INET, ifindex: dev, state: { permanent: true } });
    assert.deepEqual([bytesToIp(neighbour.attrs.dst!), bytesToMac(neighbour.attrs.lladdr!)], [ip, address]);
    const fdb = rt.parseNeighborMessage(encodeFdb({ dev, mac: address, vtep: ip, master: true }));
    assert.partialDeepStrictEqual(fdb.data, { family: AF_BRIDGE, ifindex: dev, state: { reachable: true, noarp: true }, flags: { self: true, master: true } });
    assert.deepEqual([bytesToIp(fdb.attrs.dst!), bytesToMac(fdb.attrs.lladdr!)], [ip, address]);
    const told = written(rt.formatNeighborMessage, { kind: 'neighbor', data: { family: AF_INET, ifindex: dev, state: { permanent: true } }, attrs: { dst: Buffer.from(ipToBytes(ip)), lladdr: Buffer.from(macToBytes(address)) } });
    assert.deepEqual(decodeNeighbour(told), { dev, ip, mac: address });
  }));
  t.end();
});

test('routes', (t) => {
  holds(t, fc.property(ip4, fc.integer({ min: 1, max: 32 }), optionally(ip4), optionally(index), optionally(fc.integer({ min: 1, max: 0xffffffff })), fc.integer({ min: 1, max: 4000 }), (ip, length, via, dev, metric, table) => {
    const route = { dst: `${ip}/${length}`, table, ...(via !== undefined && { via }), ...(dev !== undefined && { dev }), ...(metric !== undefined && { metric }) };
    const { data, attrs } = rt.parseRouteMessage(encodeRoute(route));
    assert.partialDeepStrictEqual(data, { family: AF_INET, dstLen: length, type: 'UNICAST' });
    assert.deepEqual([bytesToIp(attrs.dst!), attrs.gateway && bytesToIp(attrs.gateway), attrs.oif, attrs.priority, attrs.table], [ip, via, dev, metric, table]);
    const told = written(rt.formatRouteMessage, {
      kind: 'route', data: { family: AF_INET, dstLen: length, type: 'UNICAST' },
      attrs: given({ dst: Buffer.from(ipToBytes(ip)), table, gateway: via && Buffer.from(ipToBytes(via)), oif: dev, priority: metric }),
    });
    assert.partialDeepStrictEqual(decodeRoute(told), [route]);
  }));
  t.end();
});

test('rules', (t) => {
  const word = fc.integer({ min: 1, max: 0xffffffff });
  holds(t, fc.property(word, word, optionally(name), optionally(word), (priority, table, iif, fwmark) => {
    const rule = { priority, table, ...(iif !== undefined && { iif }), ...(fwmark !== undefined && { fwmark }) };
    const { data, attrs } = rt.parseRuleMessage(encodeRule(rule));
    assert.partialDeepStrictEqual(data, { family: AF_INET, action: 'toTbl' });
    assert.deepEqual([attrs.priority, attrs.table, attrs.iifname, attrs.fwmark], [priority, table, iif, fwmark]);
    assert.partialDeepStrictEqual(decodeRule(written(rt.formatRuleMessage, { kind: 'rule', data: { family: AF_INET }, attrs: given({ priority, table, iifname: iif, fwmark }) })), rule);
  }));
  t.end();
});
