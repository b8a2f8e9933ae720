/**
 *   outside 10.99.9.10
 *      |
 *    router
 *    /    \
 *   h1     h2          h1 10.99.1.1, h2 10.99.2.2, a dockerd on each
 *   web    client      web: a container with a published port
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import tap, { test } from 'tap';
import type { Host } from './host.ts';
import { IMAGE } from './image.ts';
import { LAB_DIRECTORY, OUTSIDER_ADDRESS, createLab } from './lab.ts';
import { must, until } from './run.ts';

tap.setTimeout(240_000);

/** What a lab could leave behind. */
async function machine(name: string): Promise<unknown> {
  return {
    namespaces: readdirSync('/run/netns').filter((each) => each.startsWith(`wl-${name}-`)),
    links: (await must(['ip', '-o', 'link'])).split('\n').map((line) => line.split(':')[1]),
    mounts: readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((line) => line.includes(`${LAB_DIRECTORY}/${name}/`)),
    processes: processesOf(name),
    controlGroups: globSync(`/sys/fs/cgroup/{,*/}wl-${name}-*`),
    files: existsSync(join(LAB_DIRECTORY, name)),
  };
}

/** The processes that have the lab's directory or namespaces in their command line or as their root. */
function processesOf(name: string): string[] {
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).flatMap((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      const mounts = readFileSync(`/proc/${pid}/mounts`, 'utf8');
      return [command, mounts].some((text) => text.includes(`${LAB_DIRECTORY}/${name}/`)) ? [`${pid} ${command}`] : [];
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

async function pings(from: Host, address: string): Promise<boolean> {
  const { code, stderr } = await from.exec(['busybox', 'ping', '-c', '1', '-W', '1', address]);
  if (code > 1) throw new Error(stderr);
  return code === 0;
}

/** A process that has ended stays listed until its parent, the machine's process 1 perhaps, asks for it. */
function runs(pid: string): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('two hosts with Docker', async (t) => {
  const before = await machine('docker');
  const lab = await createLab({ name: 'docker', hosts: 2, docker: true });
  t.teardown(() => lab.destroy());
  const [h1, h2] = [lab.host(1), lab.host(2)];
  const fetchWeb = (host: Host): Promise<string> => host.exec(['curl', '-s', '-m', '2', `http://${h1.address}:8080/`]).then(({ stdout }) => stdout);
  const startWeb = (): Promise<string> => h1.docker('run', '-d', '--stop-signal', 'KILL', '--name', 'web', '-p', '8080:80', '--restart', 'always', IMAGE, 'sh', '-c', 'echo hello > /www/index.html; exec httpd -f -h /www');

  await t.test('a published port answers on the other host and outside', async (t) => {
    await startWeb();
    t.equal(await until('the port answers', () => fetchWeb(h2)), 'hello\n');
    const capture = await h1.capture('eth0', 'tcp dst port 8080');
    t.equal((await lab.on('outside', ['curl', '-s', '-m', '2', `http://${h1.address}:8080/`])).stdout, 'hello\n');
    t.match(await capture.stop(), new RegExp(`IP ${OUTSIDER_ADDRESS}\\.\\d+ > ${h1.address}\\.8080: Flags \\[S\\]`));
  });

  await t.test('a container\'s network namespace can be entered from here', async (t) => {
    const address = await h1.docker('inspect', '-f', '{{.NetworkSettings.IPAddress}}', 'web');
    t.match(await must(['nsenter', `--net=${await h1.containerNetns('web')}`, 'ip', '-4', '-o', 'addr']), ` ${address}/`);
  });

  await t.test('the daemons know nothing of each other', async (t) => {
    t.not(await h1.docker('info', '-f', '{{.ID}}'), await h2.docker('info', '-f', '{{.ID}}'));
    t.equal(await h2.docker('ps', '-aq'), '');
    t.equal(await h2.docker('info', '-f', '{{.Name}}'), 'h2');
  });

  await t.test('with live-restore, a container outlives its killed daemon', async (t) => {
    await h1.stopDocker();
    await h1.startDocker(['--live-restore']);
    const pid = await h1.docker('inspect', '-f', '{{.State.Pid}}', 'web');
    await h1.stopDocker('KILL');
    t.equal(await fetchWeb(h2), 'hello\n');
    await h1.startDocker();
    t.equal(await h1.docker('inspect', '-f', '{{.State.Pid}}', 'web'), pid);
  });

  await t.test('after a power cut nothing runs, and what is on the disk is there again', async (t) => {
    const group = `/sys/fs/cgroup/memory/${h1.namespace}`;
    await h1.powerCut();
    // Those that were entered into the host from outside end a moment after what they wait for.
    await until('its processes are gone', () => processesOf(join('docker', 'h1')).length === 0, 5_000);
    t.notOk(existsSync(group), 'its control groups are gone');
    t.notOk(await pings(h2, h1.address));
    await h1.powerOn();
    t.ok(await pings(h2, h1.address));
    t.equal(await fetchWeb(h2), '');
    await h1.startDocker();
    t.equal(await until('the port answers', () => fetchWeb(h2)), 'hello\n');
  });

  await lab.destroy();
  t.strictSame(await machine('docker'), before, 'nothing is left');
});

test('the network of hosts without Docker', async (t) => {
  const lab = await createLab({ name: 'net', hosts: 3 });
  t.teardown(() => lab.destroy());
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)];

  await t.test('hosts are routed, and boot as Debian does', async (t) => {
    for (const other of [h2, h3]) t.ok(await pings(h1, other.address));
    t.match(await h1.must(['busybox', 'traceroute', '-n', '-q', '1', h2.address]), /1 {2}10\.99\.1\.254 [^]* 2 {2}10\.99\.2\.2 /);
    t.equal(await h1.must(['cat', '/proc/sys/net/ipv4/ip_forward']), '0\n');
    t.equal(await h1.must(['hostname']), 'h1\n');
  });

  await t.test('a cut cable takes the carrier, and leaves addresses and routes', async (t) => {
    const routes = (): Promise<string> => h2.must(['sh', '-c', 'ip route | sed "s/ linkdown//"']);
    const before = await routes();
    await h2.cutLink();
    t.notOk(await pings(h1, h2.address));
    t.match(await h2.must(['ip', 'link', 'show', 'eth0']), /NO-CARRIER/);
    t.equal(await routes(), before);
    await h2.healLink();
    t.ok(await pings(h1, h2.address));
  });

  await t.test('a second card is on a subnet of its own', async (t) => {
    const address = await lab.addNic(2);
    t.ok(await pings(h1, address));
    t.match(await h2.must(['ip', '-4', '-o', 'addr', 'show', 'eth1']), ` ${address}/24 `);
  });

  await t.test('what a host writes to /etc and /var/lib stays its own, also over a power cut', async (t) => {
    await h1.must(['sh', '-c', 'echo mine > /etc/weft-lab-probe; echo mine > /var/lib/weft-lab-probe']);
    await h1.powerCut();
    await h1.powerOn();
    t.equal(await h1.must(['cat', '/etc/weft-lab-probe', '/var/lib/weft-lab-probe']), 'mine\nmine\n');
    t.notOk(existsSync('/etc/weft-lab-probe') || existsSync('/var/lib/weft-lab-probe'));
    t.not((await h2.exec(['cat', '/etc/weft-lab-probe'])).code, 0);
  });

  await t.test('process 1 reaps what its children leave', async (t) => {
    await h1.must(['sh', '-c', '(sleep 0.1 &) ; exit 0']);
    await until('no defunct process', async () => !/ Z /.test(await h1.must(['ps', '-eo', 'pid,stat,comm'])));
    t.pass();
  });
});

/** Tells its process number to who connects at the first socket it was handed, and ends when told so. */
const SERVICE = `require('node:net').createServer((s) => s.end(process.env.LISTEN_PID === String(process.pid) ? String(process.pid) : 'not mine')).listen({ fd: 3 });`;

test('a service on a host has its sockets held while it is down', async (t) => {
  const lab = await createLab({ name: 'service', hosts: 1 });
  t.teardown(() => lab.destroy());
  const host = lab.host(1);
  const path = '/run/probe/probe.sock';
  const service = await host.startService([process.execPath, '-e', SERVICE], [path]);
  const ask = (): Promise<string> => host.must([process.execPath, '-e', `require('node:net').connect(${JSON.stringify(path)}).pipe(process.stdout)`]);

  t.equal(statSync(`/proc/${host.pid}/root${path}`).mode & 0o777, 0o600);
  const first = await service.pid();
  t.equal(await ask(), String(first), 'it has the socket, and LISTEN_PID is its own');

  await service.kill();
  t.equal(await service.pid(), 0, 'killed, it stays down');
  const waiting = ask();
  await service.start();
  t.equal(await waiting, String(await service.pid()), 'a call made meanwhile waited for it');

  const second = await service.pid();
  await service.crash();
  const third = await until('it is started again', async () => {
    const pid = await service.pid();
    return pid !== 0 && pid !== second && pid;
  });
  t.equal(await ask(), String(third));
  await service.stop();
  t.equal(await service.pid(), 0);
});

test('labs side by side have the same addresses and do not see each other', async (t) => {
  const labs = await Promise.all(['left', 'right'].map((name) => createLab({ name, hosts: 1 })));
  t.teardown(async () => {
    for (const lab of labs) await lab.destroy();
  });
  const [left, right] = labs.map((lab) => lab.host(1));
  t.equal(left!.address, right!.address);
  left!.spawn(['busybox', 'httpd', '-f', '-p', '80', '-h', '/etc']);
  const get = (host: Host): Promise<number> => host.exec(['curl', '-s', '-m', '2', '-o', '/dev/null', `http://${host.address}/hostname`]).then(({ code }) => code);
  await until('the left one answers', async () => await get(left!) === 0);
  t.not(await get(right!), 0);
});

test('one process at a time has a lab of a name; what a crashed one left is cleared', async (t) => {
  const before = await machine('crashed');
  const script = `const { createLab } = await import(${JSON.stringify(join(import.meta.dirname, 'lab.ts'))});
    const lab = await createLab({ name: 'crashed', hosts: 1 });
    lab.spawnOn('outside', ['sleep', '100000']);
    console.log('up'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await t.rejects(createLab({ name: 'crashed', hosts: 1 }), /in use by another process/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const left = (await must(['ip', 'netns', 'pids', 'wl-crashed-outside'])).trim();
  t.ok(runs(left), 'the crashed one left a process');
  const lab = await createLab({ name: 'crashed', hosts: 1 });
  t.teardown(() => lab.destroy());
  t.notOk(runs(left));
  t.equal(processesOf('crashed').filter((line) => line.includes('init.sh')).length, 2, 'one host runs: its process 1 and who started it');
  await lab.destroy();
  t.strictSame(await machine('crashed'), before, 'nothing is left');
});
