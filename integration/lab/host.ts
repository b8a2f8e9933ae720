/**
 * A Docker host: its own network, mount, process, host-name and IPC namespaces, a process 1 that reaps, a private /run,
 * and private /etc, /var/lib and /usr/lib as layers over the machine's, so that nothing it does is left anywhere.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, openSync, readFileSync, rmdirSync, readdirSync, closeSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { IMAGE, imageTar } from './image.ts';
import { must, run, until, wait, type Result, type RunOptions } from './run.ts';

export interface HostOptions {
  /** Unique on the machine: 'wl-NAME-h1'. */
  namespace: string;
  name: string;
  directory: string;
  /** Its first address on the underlay. */
  address: string;
  cacheDirectory: string;
  nameserver: string;
  /** Directory with another dockerd, containerd and shim. */
  engine?: string | undefined;
}

const SUPERVISOR = new URL('./supervisor.ts', import.meta.url).pathname;
const LAYERED = ['/etc', '/var/lib', '/usr/lib'];

export class Host {
  readonly name: string;
  readonly address: string;
  readonly directory: string;
  readonly namespace: string;
  readonly #options: HostOptions;
  #unshare: ChildProcess | undefined;
  #init: number | undefined;
  #dockerFlags: string[] = [];

  constructor(options: HostOptions) {
    this.#options = options;
    this.name = options.name;
    this.address = options.address;
    this.directory = options.directory;
    this.namespace = options.namespace;
  }

  /** Process 1 of the host, as this machine numbers it. */
  get pid(): number {
    if (this.#init === undefined) throw new Error(`${this.name} is not up`);
    return this.#init;
  }

  get up(): boolean {
    return this.#init !== undefined;
  }

  /** Switches the host on; what was on its disk before is there again. */
  async powerOn(): Promise<void> {
    const { directory, name, namespace, nameserver } = this.#options;
    const ready = join(directory, 'ready');
    await mkdir(join(directory, 'cgroup'), { recursive: true });
    for (const layer of LAYERED) await mkdir(join(directory, 'layers', layer, 'upper'), { recursive: true });
    for (const layer of LAYERED) await mkdir(join(directory, 'layers', layer, 'work'), { recursive: true });
    await rm(ready, { force: true });
    const layers = LAYERED.map((path) => {
      const base = join(directory, 'layers', path);
      return `mount -t overlay overlay -o lowerdir=${path},upperdir=${base}/upper,workdir=${base}/work ${path}`;
    });
    // A sysfs shows the network namespace it was mounted from, and takes the cgroup mounts along when it goes: they are kept aside.
    const script = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --rbind /sys/fs/cgroup ${directory}/cgroup
umount -l /sys && mount -t sysfs sysfs /sys
mount --rbind ${directory}/cgroup /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run && mount --make-rshared /run
mkdir -p /run/docker/plugins /run/lock /run/netns
${layers.join('\n')}
echo 'nameserver ${nameserver}' > /etc/resolv.conf
printf '127.0.0.1 localhost\\n${this.address} ${name}\\n' > /etc/hosts
hostname ${name}
echo up > ${ready}
set +e
trap : TERM INT
while :; do sleep 1000000 & wait; done
`;
    const path = join(directory, 'init.sh');
    await writeFile(path, script);
    const log = openSync(join(directory, 'init.log'), 'a');
    const started = spawn('nsenter', [
      `--net=/run/netns/${namespace}`, 'unshare', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child=KILL', 'bash', path,
    ], { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    started.unref();
    this.#unshare = started;
    await until(`${name} starts (${readFileSync(join(directory, 'init.log'), 'utf8').slice(-300)})`, () => existsSync(ready), 20_000, 10);
    this.#init = await until(`process 1 of ${name}`, () => childOf(started.pid!), 5_000, 10);
    await writeFile(join(directory, 'pids.json'), JSON.stringify([this.#init, started.pid]));
  }

  /** All its processes end at once, as if its power failed. */
  async powerCut(): Promise<void> {
    const init = this.#init;
    if (init === undefined) return;
    this.#init = undefined;
    kill(init);
    if (this.#unshare?.pid !== undefined) kill(this.#unshare.pid);
    await until(`${this.name} ends`, () => !existsSync(`/proc/${init}`), 20_000, 10);
    await this.#removeCgroups();
  }

  async #removeCgroups(): Promise<void> {
    for (const controller of readdirSync('/sys/fs/cgroup')) await removeGroup(join('/sys/fs/cgroup', controller, this.namespace));
    await removeGroup(join('/sys/fs/cgroup', this.namespace));
  }

  #enter(command: readonly string[]): string[] {
    return ['nsenter', '-t', String(this.pid), '-m', '-n', '-u', '-i', '-p', '--', ...command];
  }

  exec(command: readonly string[], options?: RunOptions): Promise<Result> {
    return run(this.#enter(command), options);
  }

  must(command: readonly string[], options?: RunOptions): Promise<string> {
    return must(this.#enter(command), options);
  }

  /** A process that goes on; it ends with the host. */
  spawn(command: readonly string[], log?: string): ChildProcess {
    const [file, ...args] = this.#enter(command);
    const out = log === undefined ? 'ignore' : openSync(log, 'a');
    const child = spawn(file!, args, { stdio: ['ignore', out, out], detached: true });
    if (typeof out === 'number') closeSync(out);
    child.unref();
    return child;
  }

  // Docker ----------------------------------------------------------------------------------------------------------

  async startDocker(flags: readonly string[] = this.#dockerFlags): Promise<void> {
    this.#dockerFlags = [...flags];
    const { engine, directory, namespace } = this.#options;
    await this.exec(['rm', '-f', '/run/docker.sock', '/run/dockerd.pid']);
    const path = engine === undefined ? [] : ['env', `PATH=${engine}:${process.env['PATH']}`];
    this.spawn([
      ...path, 'dockerd', '-H', 'unix:///run/docker.sock', '--data-root', join(directory, 'docker'), '--exec-root', '/run/docker', '--pidfile', '/run/dockerd.pid',
      '--cgroup-parent', `/${namespace}`, '--storage-driver', 'overlay2', ...flags,
    ], join(directory, 'dockerd.log'));
    await until(`dockerd of ${this.name}`, async () => (await this.exec(['docker', 'version'])).code === 0, 90_000, 100);
    if ((await this.exec(['docker', 'image', 'inspect', IMAGE])).code !== 0) await this.docker('import', await imageTar(this.#options.cacheDirectory), IMAGE);
  }

  async stopDocker(signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    await this.exec(['sh', '-c', `p=$(cat /run/dockerd.pid) && kill -${signal} $p && while kill -0 $p 2>/dev/null; do sleep 0.05; done`]);
  }

  /** Standard output without its last newline; rejects with what Docker said. */
  async docker(...args: string[]): Promise<string> {
    return (await this.must(['docker', ...args])).trimEnd();
  }

  dockerLog(): string {
    return readFileSync(join(this.directory, 'dockerd.log'), 'utf8');
  }

  tryDocker(...args: string[]): Promise<Result> {
    return this.exec(['docker', ...args]);
  }

  // weftd -----------------------------------------------------------------------------------------------------------

  /** Holds weftd's sockets and runs it, as systemd would. */
  async startService(command: readonly string[], sockets: readonly string[]): Promise<Service> {
    const control = join(this.directory, 'supervisor.sock');
    const log = join(this.directory, 'weftd.log');
    await rm(control, { force: true });
    this.spawn([process.execPath, SUPERVISOR, control, log, sockets.join(','), '--', ...command], join(this.directory, 'supervisor.log'));
    await until(`the supervisor of ${this.name}`, async () => (await say(control, 'pid')) !== '', 20_000, 10);
    const service: Service = { log, start: () => say(control, 'start'), stop: () => say(control, 'stop'), kill: () => say(control, 'kill'), crash: () => say(control, 'crash'), pid: async () => Number(await say(control, 'pid')) };
    await service.start();
    return service;
  }

  // Underlay --------------------------------------------------------------------------------------------------------

  /** The host's end of the wire stays; nothing passes. */
  async cutLink(): Promise<void> {
    await must(['ip', '-n', this.namespace, 'link', 'set', 'eth0', 'down']);
  }

  async healLink(): Promise<void> {
    await must(['ip', '-n', this.namespace, 'link', 'set', 'eth0', 'up']);
    await must(['ip', '-n', this.namespace, 'route', 'replace', 'default', 'via', this.address.replace(/\d+$/, '254')]);
  }

  /** What a device carries from now on; stop() tells it as tcpdump's text. */
  async capture(device: string, filter: string): Promise<{ stop(): Promise<string> }> {
    const path = join(this.directory, `capture-${Date.now()}`);
    const child = this.spawn(['tcpdump', '-nn', '-l', '--immediate-mode', '-i', device, filter], path);
    await until('tcpdump listens', () => /listening on/.test(readFileSync(path, 'utf8')), 10_000, 20);
    return {
      stop: async () => {
        await wait(200);
        await this.exec(['pkill', '-INT', '-x', 'tcpdump']);
        if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
        const text = readFileSync(path, 'utf8');
        await rm(path);
        return text;
      },
    };
  }
}

export interface Service {
  readonly log: string;
  start(): Promise<string>;
  stop(): Promise<string>;
  /** SIGKILL; it stays down. */
  kill(): Promise<string>;
  /** SIGKILL; it is started again. */
  crash(): Promise<string>;
  /** As the host numbers it; 0 when it is down. */
  pid(): Promise<number>;
}

function say(control: string, word: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(control, () => socket.write(`${word}\n`));
    socket.on('data', (chunk) => (answer += chunk.toString()));
    socket.on('end', () => resolve(answer.trim()));
    socket.on('error', reject);
  });
}

function childOf(pid: number): number | undefined {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? undefined : Number(text.split(' ')[0]);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch { /* it has ended */ }
}

/** A control group can be removed when it is empty, from the leaves up. */
async function removeGroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true })) if (entry.isDirectory()) await removeGroup(join(path, entry.name));
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      rmdirSync(path);
      return;
    } catch {
      await wait(20);
    }
  }
}

/** Ends the hosts of a lab of that directory that crashed. */
export function endLeftovers(directory: string): void {
  const path = join(directory, 'pids.json');
  if (!existsSync(path)) return;
  for (const pid of JSON.parse(readFileSync(path, 'utf8')) as number[]) {
    // Only what is certainly ours: its command line names this directory.
    if (existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory)) kill(pid);
  }
}
