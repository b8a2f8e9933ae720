/**
 *   outside
 *     |
 *   router
 *   /    \
 * h1      h2          Docker on both, etcd on h1; networks: web (overlay), here (a bridge of h1)
 *
 * Every form of `docker run -p`, as dockerd hands it over: ranges, ports of Weft's choice, single addresses, SCTP.
 */
import { readFileSync } from 'node:fs';
import tap, { test } from 'tap';
import type { PsAnswer } from '../agent/api.ts';
import { portKey } from '../cnm/ports.ts';
import { startEtcd } from './lab/etcd.ts';
import type { Host } from './lab/host.ts';
import { IMAGE } from './lab/image.ts';
import { createLab } from './lab/lab.ts';
import { until, type Result } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(300_000);

/** One association or connection, in the namespace of a process: the server says 'hello', the client prints it. */
const SERVER = 'import socket,sys\ns=socket.socket(2,1,int(sys.argv[1]));s.bind(("0.0.0.0",99));s.listen();print("up",flush=True)\nwhile True:\n c,_=s.accept();c.send(b"hello");c.close()';
const CLIENT = 'import socket,sys\ns=socket.socket(2,1,int(sys.argv[1]));s.settimeout(3);s.connect((sys.argv[2],int(sys.argv[3])));print(s.recv(9).decode())';

void test('every form of -p', async (t) => {
  const lab = await createLab({ name: 'ports', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const etcd = await startEtcd(h1);
  for (const host of [h1, h2]) await weftUp(host, { store: etcd.url });
  for (const host of [h1, h2]) await until('Docker answers', async () => /docker +answers/.test((await weft(host, 'status')).stdout));
  await weftJson(h1, 'network', 'create', 'web');
  await until('h2 has it', async () => (await h2.docker('network', 'ls', '-q', '--filter', 'name=web')) !== '');
  await h1.docker('network', 'create', '-d', 'weft-bridge', 'here');

  /** Answers on 80, 81 and 82 with its name. */
  const start = (host: Host, name: string, network: string, ...args: string[]): Promise<Result> => host.tryDocker(
    'run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, '--hostname', name, ...args, IMAGE,
    'sh', '-c', 'for p in 80 81; do nc -ll -p $p -e hostname & done; exec nc -ll -p 82 -e hostname',
  );
  const run = async (...args: Parameters<typeof start>): Promise<void> => {
    const { code, stderr } = await start(...args);
    if (code !== 0) throw new Error(stderr);
  };
  const remove = (host: Host, ...names: string[]): Promise<string> => host.docker('rm', '-f', ...names);
  const ask = async (from: (command: readonly string[]) => Promise<Result>, address: string, port: number): Promise<string> =>
    (await from(['busybox', 'timeout', '3', 'busybox', 'nc', '-w', '2', address, String(port)])).stdout.trim();
  const outside = (command: readonly string[]) => lab.on('outside', command);
  const on = (host: Host) => (command: readonly string[]) => host.exec(command);
  const answers = (name: string, from: (command: readonly string[]) => Promise<Result>, address: string, port: number): Promise<unknown> =>
    until(`${address}:${port} leads to ${name}`, async () => (await ask(from, address, port)) === name, 10_000, 200);
  /** 'tcp/8000 ingress: 80' of a service. */
  const published = async (at: Host, service: string): Promise<string[]> => (await weftJson<PsAnswer>(at, 'ps')).ports
    .filter((port) => port.service === service)
    .map(({ protocol, hostIp, port, mode, backends }) => `${portKey(protocol, hostIp, port)} ${mode}: ${backends.map((each) => each.port).join()}`).sort();
  const numberOf = (text: string): number => Number(/(\d+) \w+:/.exec(text)![1]);

  await t.test('a range: one port for each container, of the cluster', async (tt) => {
    await Promise.all([run(h1, 'r1', 'web', '-p', '8000-8001:80'), run(h2, 'r2', 'web', '-p', '8000-8001:80')]);
    const places = new Map<string, number>();
    for (const name of ['r1', 'r2']) {
      const [place, ...more] = await until(`h1 knows ${name}`, async () => {
        const list = await published(h1, name);
        return list.length > 0 && list;
      });
      tt.same(more, []);
      places.set(name, numberOf(place!));
    }
    tt.same([...places.values()].sort(), [8000, 8001]);
    for (const [name, port] of places) for (const host of [h1, h2]) await answers(name, outside, host.address, port);
    tt.match(await start(h2, 'r3', 'web', '-p', '8000-8001:80'), { code: 125, stderr: /WEFT-PORT-RANGE: none of the ports 8000-8001\/tcp is free/ });
    await h2.docker('rm', 'r3');
    await remove(h1, 'r1');
    await run(h2, 'r3', 'web', '-p', '8000-8001:80');
    await answers('r3', outside, h1.address, places.get('r1')!);
    await remove(h2, 'r2', 'r3');
  });

  await t.test('one to one: all of it or nothing', async (tt) => {
    await run(h2, 'one', 'web', '-p', '8102:82');
    tt.match(await start(h1, 'all', 'web', '-p', '8100-8102:80-82'), { code: 125, stderr: /WEFT-PORT-HELD: port 8102\/tcp belongs to service one/ });
    await h1.docker('rm', 'all');
    await remove(h2, 'one');
    await run(h1, 'all', 'web', '-p', '8100-8102:80-82');
    tt.same(await published(h1, 'all'), ['tcp/8100 ingress: 80', 'tcp/8101 ingress: 81', 'tcp/8102 ingress: 82']);
    for (const port of [8100, 8101, 8102]) await answers('all', outside, h2.address, port);
    tt.match(await start(h1, 'twice', 'web', '-p', '8110:80', '-p', '8110:81'), { code: 125, stderr: /WEFT-PORT-TWICE|already allocated|conflicting/ });
    await remove(h1, 'all', 'twice');
  });

  await t.test('a port of Weft\'s choice, by -p and by -P', async (tt) => {
    await run(h2, 'any', 'web', '-p', '80', '--expose', '81', '-P');
    const list = await until('h1 knows', async () => {
      const known = await published(h1, 'any');
      return known.length === 2 && known;
    });
    for (const text of list) {
      tt.match(text, /^tcp\/\d+ ingress: 8[01]$/);
      tt.ok(numberOf(text) >= 49152, text);
      await answers('any', outside, h1.address, numberOf(text));
    }
    tt.equal(await h2.docker('port', 'any'), '', 'Docker cannot be told');
    await remove(h2, 'any');
  });

  await t.test('an address of one host', async (tt) => {
    await run(h1, 'bound', 'web', '-p', `${h1.address}:8200:80`, '-p', '127.0.0.1:8201:81');
    tt.same(await published(h1, 'bound'), [`tcp/${h1.address}:8200 host: 80`, 'tcp/127.0.0.1:8201 host: 81'].sort());
    await answers('bound', outside, h1.address, 8200);
    await answers('bound', on(h2), h1.address, 8200);
    await answers('bound', on(h1), h1.address, 8200);
    await answers('bound', on(h1), '127.0.0.1', 8201);
    tt.equal(await ask(outside, h2.address, 8200), '', 'no other host answers');
    tt.equal(await ask(on(h1), '127.0.0.1', 8200), '', 'nor another address');
    for (const from of [outside, on(h2)]) tt.equal(await ask(from, h1.address, 8201), '', 'what is on 127.0.0.1 is for the host itself');
    await run(h2, 'other', 'web', '-p', `${h2.address}:8200:80`);
    await answers('other', outside, h2.address, 8200);
    await answers('bound', outside, h1.address, 8200);
    tt.match(await start(h1, 'third', 'web', '-p', '8200:80'), { code: 125, stderr: /WEFT-PORT-HELD: port 8200\/tcp belongs to service bound/ });
    tt.match(await start(h1, 'fourth', 'web', '-p', '192.0.2.77:8200:80'), { code: 125, stderr: /WEFT-PORT-ADDRESS: 192\.0\.2\.77/ });
    await remove(h1, 'bound', 'third', 'fourth');
    await remove(h2, 'other');
  });

  await t.test('the same on a bridge network, on its own host', async (tt) => {
    await run(h1, 'b1', 'here', '-p', '8300-8301:80', '-p', '127.0.0.1:8310:81');
    await run(h1, 'b2', 'here', '-p', '8300-8301:80', '-p', '82/sctp');
    await answers('b1', outside, h1.address, 8300);
    await answers('b2', outside, h1.address, 8301);
    await answers('b1', on(h1), '127.0.0.1', 8310);
    tt.equal(await ask(outside, h1.address, 8310), '');
    tt.match(await start(h1, 'b3', 'here', '-p', '8300-8301:80'), { code: 125, stderr: /WEFT-PORT-RANGE: none of the ports 8300-8301\/tcp/ });
    tt.same(await published(h1, 'b1'), ['tcp/127.0.0.1:8310 host: 81', 'tcp/8300 host: 80']);
    tt.match(await published(h1, 'b2'), [/^sctp\/49\d+ host: 82$/, 'tcp/8301 host: 80']);
    tt.same(await published(h2, 'b1'), [], 'other hosts know nothing of it');
    tt.notMatch(await h1.must(['ps', 'ax', '-o', 'comm']), 'docker-proxy', 'no program stands between');
    await remove(h1, 'b1', 'b2', 'b3');
  });

  for (const [protocol, number] of [['tcp', 6], ['sctp', 132]] as const) {
    const missing = !/^SCTP /m.test(readFileSync('/proc/net/protocols', 'utf8')) && protocol === 'sctp';
    await t.test(`${protocol}: a conversation by another host`, { skip: missing && 'this kernel has no SCTP sockets; that its packets are led to the container is tested in ingress/sctp.test.ts' }, async (tt) => {
      await run(h1, 'talk', 'web', '-p', `9899:99/${protocol}`);
      const pid = await h1.docker('inspect', '-f', '{{.State.Pid}}', 'talk');
      h1.spawn(['nsenter', '-t', pid, '-n', 'python3', '-c', SERVER, String(number)]);
      await until('an answer', async () => (await lab.on('outside', ['python3', '-c', CLIENT, String(number), h2.address, '9899'])).stdout === 'hello\n', 10_000, 200);
      tt.same(await published(h2, 'talk'), [`${protocol}/9899 ingress: 99`]);
      await remove(h1, 'talk');
    });
  }
});
