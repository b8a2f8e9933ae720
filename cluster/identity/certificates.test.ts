import { X509Certificate } from 'node:crypto';
import { test, type Test } from 'tap';
import { systemClock as clock } from '../../base/clock.ts';
import { storesForTests } from '../../store/stores-for-tests.ts';
import { issueCertificate, newKey, requestCertificate } from './authority.ts';
import { enterCertificate, revocationOf, revocations, watchRevocations, type Revocations } from './certificates.ts';
import { foundAuthority } from './credentials.ts';

const DAY = 86_400_000;
const node = { id: '0123456789abcdef', address: '10.0.0.1' };

function scene(t: Test) {
  const store = storesForTests(t, clock).store();
  const now = clock.wallNow();
  const issue = async (lifetimeMs = DAY): Promise<string> =>
    issueCertificate(await foundAuthority(store), await requestCertificate(await newKey()), { node: { id: node.id, addresses: [node.address] }, lifetimeMs, now });
  const remove = async (at = now): Promise<boolean> => {
    const { compares, writes } = await revocationOf(store, node, at);
    return (await store.txn(compares, writes)).succeeded;
  };
  return { store, now, issue, remove };
}
const serialOf = (certificate: string): string => new X509Certificate(certificate).serialNumber;

test('all certificates of a node that are still valid are refused with it, and it gets no other', async (t) => {
  const { store, now, issue, remove } = scene(t);
  const [first, second, old] = [await issue(), await issue(2 * DAY), await issue(1_000)];
  t.same((await revocations(store, now)).certificates, []);
  for (const certificate of [old, first, second, second]) t.ok(await enterCertificate(store, certificate, now));
  const lists: Revocations[] = [];
  t.teardown(watchRevocations(store, (list) => void lists.push(list)));
  t.ok(await remove(now + 2_000));
  const { certificates, list } = await revocations(store, now);
  t.same(certificates.map(({ serial, address }) => [serial, address]), [first, second].map((each) => [serialOf(each), node.address]), 'the expired one is of no use anyway');
  t.match(list, /^-----BEGIN X509 CRL-----/);
  t.same(lists.at(-1)?.list, list);
  await t.rejects(enterCertificate(store, await issue(), now), { code: 'WEFT-NODE-REMOVED' });
  t.ok(await remove(now + 3 * DAY), 'what has expired is taken off the list');
  t.same((await revocations(store, now)).certificates, []);
});

test('a certificate that is issued while its node is taken out is refused, or stops the removal', async (t) => {
  const { store, now, issue } = scene(t);
  t.ok(await enterCertificate(store, await issue(), now));
  const { compares, writes } = await revocationOf(store, node, now);
  t.ok(await enterCertificate(store, await issue(), now));
  t.notOk((await store.txn(compares, writes)).succeeded, 'it has to be looked at again');
});

test('a guard that does not hold keeps a certificate from being handed out', async (t) => {
  const { store, now, issue } = scene(t);
  t.notOk(await enterCertificate(store, await issue(), now, [{ key: 'x', revision: 7 }]));
  t.same((await store.range('identity/certificates/')).entries, []);
});
