/**
 *   h1    its disk is 300 MB, without Docker
 *
 * The disk that weftd keeps its state on is full: while the host is alone, and when it has a cluster's store besides.
 */
import { readFileSync } from 'node:fs';
import tap, { type Test, test } from 'tap';
import type { SandboxAnswer } from '../agent/api.ts';
import type { Host, Service } from './lab/host.ts';
import { createLab } from './lab/lab.ts';
import { until } from './lab/run.ts';
import { control, weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(240_000);

const DISK = '/var/lib/weft';

void test('a full disk', async (t) => {
  const lab = await createLab({ name: 'fulldisk', hosts: 1 });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  await host.must(['mkdir', '-p', DISK]);
  await host.must(['mount', '-t', 'tmpfs', '-o', 'size=300m,mode=700', 'weft-disk', DISK]);
  const service = await weftUp(host);
  await weftJson(host, 'network', 'create', 'web');
  await add(host, 'a');
  const address = (await add(host, 'b')).split('/')[0]!;
  await t.test('of a host alone', (each) => fullDisk(each, { host, service, address }));
  await until('a token', () => weftJson<{ token: string }>(host, 'token'), 40_000);
  await t.test('of a host that has the cluster\'s store', (each) => fullDisk(each, { host, service, address }));
});

const add = (host: Host, name: string): Promise<string> => control<SandboxAnswer>(host, 'POST', 'sandboxes', { name, network: 'web' }).then(({ address }) => address!);
const fill = (host: Host): Promise<string> => host.must(['sh', '-c', `dd if=/dev/zero of=${DISK}/ballast bs=64k 2>/dev/null; dd if=/dev/zero of=${DISK}/ballast bs=512 oflag=append conv=notrunc 2>/dev/null; true`]);
const free = (host: Host): Promise<string> => host.must(['rm', `${DISK}/ballast`]);
const traces = async (host: Host): Promise<string> => host.must(['sh', '-c', 'ls /run/netns /etc/netns; ip -n weft -o link | wc -l; ip -o link | wc -l']);

/** `address`: of the sandbox b. */
async function fullDisk(t: Test, { host, service, address }: { host: Host; service: Service; address: string }): Promise<void> {
  const pings = async (): Promise<boolean> => (await host.exec(['ip', 'netns', 'exec', 'a', 'busybox', 'ping', '-c', '1', '-W', '1', address])).code === 0;
  const starts = (): number => readFileSync(service.log, 'utf8').match(/^WEFT-.*full/gm)?.length ?? 0;
  const before = await traces(host);
  const pid = await service.pid();
  await fill(host);
  // What is left of the log's last page may take a few more.
  let refused = '';
  const made: string[] = [];
  for (let i = 0; refused === '' && i < 50; i++) {
    try {
      await add(host, `full-${i}`);
      made.push(`full-${i}`);
    } catch (error) {
      refused = (error as Error).message;
    }
  }
  t.match(refused, /^WEFT-DISK: .*full.*make room/, 'a clear error');
  t.ok(await pings(), 'traffic goes on');
  t.match((await weft(host, 'status')).stdout, /^! this node could not write its own state: .*disk is full/m, 'weft status says so');
  t.match((await weft(host, 'network', 'create', 'full')).stderr, /WEFT-(DISK|STORE-UNREACHABLE)/, 'the same for a network');
  t.equal(await service.pid(), pid, 'weftd runs on');
  const refusedStarts = starts();
  await service.crash();
  await until('a start has tried to write', () => starts() > refusedStarts, 20_000);
  t.ok(await pings(), 'also when weftd cannot start');

  await free(host);
  await until('it goes on when there is room', () => add(host, 'after'), 30_000);
  for (const name of [...made, 'after']) await control(host, 'DELETE', `sandboxes/${name}`);
  t.equal(await traces(host), before, 'refused ones left nothing');
  t.ok(await pings(), 'the same as before');
  t.same((await weftJson<{ findings: object[] }>(host, 'ipam', 'check')).findings, []);
  await until('networks can be made', async () => (await weft(host, 'network', 'create', 'after')).code === 0, 30_000);
  t.equal((await weft(host, 'network', 'rm', 'after')).code, 0);
}
