/**
 * A Docker host: its own network, mount, process, host-name and IPC namespaces, a process 1 that reaps, a private /run,
 * and private /etc, /var/lib and /usr/lib as layers over the machine's, so that nothing it does is left anywhere. What a
 * Docker or weft of the machine's own keeps there it does not see.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, openSync, readFileSync, closeSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { startCapture, type Capture } from './capture.ts';
import { removeControlGroups } from './control-groups.ts';
import { IMAGE, imageTar } from './image.ts';
import { must, run, until, type Result, type RunOptions } from './run.ts';
import { connect as connectCard, type Card, type Wire } from './wire.ts';

export interface HostOptions {
  /** Unique on the machine: 'wl-NAME-h1'. */
  namespace: string;
  name: string;
  directory: string;
  /** The namespace that its network cards are wired to. */
  router: string;
  /** The first one's address is the host's. */
  cards: readonly Card[];
  /** Makes its network namespace, with these cards. */
  install(cards: readonly Card[]): Promise<Wire[]>;
  cacheDirectory: string;
  nameserver: string;
  /** Directory with another dockerd, containerd and shim. */
  engine?: string | undefined;
}

const SUPERVISOR = new URL('./supervisor.ts', import.meta.url).pathname;
const LAYERED = ['/etc', '/var/lib', '/usr/lib'];
const HIDDEN = ['/etc/docker', '/etc/weft', '/var/lib/docker', '/var/lib/containerd', '/var/lib/weft'];

export class Host {
  readonly name: string;
  readonly address: string;
  readonly directory: string;
  readonly namespace: string;
  readonly #cards: Card[];
  #wires: Wire[] = [];
  readonly #options: HostOptions;
  readonly #captures = new Set<Capture>();
  #unshare: ChildProcess | undefined;
  #init: number | undefined;
  #dockerFlags: string[] = [];

  constructor(options: HostOptions) {
    this.#options = options;
    this.name = options.name;
    this.#cards = [...options.cards];
    this.address = this.#cards[0]!.address;
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

  /** The host's network namespace, as this machine sees it. */
  get netnsPath(): string {
    return `/run/netns/${this.namespace}`;
  }

  /** A further network card; it stays. */
  async addCard(card: Card): Promise<void> {
    this.#cards.push(card);
    this.#wires.push(await connectCard(this.#options.router, this.namespace, card));
  }

  /** Switches the host on; what was on its disk before is there again, and nothing of its kernel's. */
  async powerOn(): Promise<void> {
    const { directory, name, namespace, nameserver } = this.#options;
    const ready = join(directory, 'ready');
    this.#wires = await this.#options.install(this.#cards);
    await mkdir(join(directory, 'cgroup'), { recursive: true });
    if (!existsSync(join(directory, 'layers'))) await this.#makeLayers();
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
    await until(`${name} starts`, () => {
      if (started.exitCode !== null) throw new Error(readFileSync(join(directory, 'init.log'), 'utf8').trim().slice(-300));
      return existsSync(ready);
    }, 20_000, 10);
    this.#init = await until(`process 1 of ${name}`, () => childOf(started.pid!), 5_000, 10);
  }

  async #makeLayers(): Promise<void> {
    const base = (path: string): string => join(this.directory, 'layers', path);
    for (const path of LAYERED) {
      for (const part of ['upper', 'work']) await mkdir(join(base(path), part), { recursive: true });
    }
    // A character device 0/0 in the upper layer hides what is below (kernel doc filesystems/overlayfs, "whiteouts").
    for (const path of HIDDEN) await must(['mknod', join(base(dirname(path)), 'upper', basename(path)), 'c', '0', '0']);
  }

  /** All its processes and its kernel's state end at once, as if its power failed. */
  async powerCut(): Promise<void> {
    const init = this.#init;
    if (init === undefined) return;
    this.#init = undefined;
    for (const capture of this.#captures) await capture.stop();
    kill(init);
    if (this.#unshare?.pid !== undefined) kill(this.#unshare.pid);
    await until(`${this.name} ends`, () => !existsSync(`/proc/${init}`), 20_000, 10);
    await removeControlGroups(this.namespace);
    for (const wire of this.#wires) await wire.remove();
    await must(['ip', 'netns', 'delete', this.namespace]);
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
    // A child of the host's process 1: nsenter, which would be its parent, stops for good when its child is stopped.
    this.spawn([
      'setsid', '--fork', ...path, 'dockerd', '-H', 'unix:///run/docker.sock', '--data-root', join(directory, 'docker'), '--exec-root', '/run/docker', '--pidfile', '/run/dockerd.pid',
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
    await until(`the supervisor of ${this.name}`, async () => (await say(control, 'pid')) !== '', 60_000, 10);
    const tell = (word: string) => async (): Promise<void> => {
      const answer = await say(control, word);
      if (answer !== 'ok') throw new Error(`weftd of ${this.name}: ${answer}`);
    };
    const service: Service = { log, start: tell('start'), stop: tell('stop'), kill: tell('kill'), crash: tell('crash'), pid: async () => Number(await say(control, 'pid')) };
    await service.start();
    return service;
  }

  // Network ---------------------------------------------------------------------------------------------------------

  /** Its cables are out. */
  async cutLink(): Promise<void> {
    for (const wire of this.#wires) await wire.cut();
  }

  async healLink(): Promise<void> {
    for (const wire of this.#wires) await wire.heal();
  }

  /** A running container's network namespace, as this machine sees it. */
  async containerNetns(container: string): Promise<string> {
    return this.#inside(`/proc/${await this.docker('inspect', '-f', '{{.State.Pid}}', container)}/ns/net`);
  }

  /** What a device carries from now on; of the host, or of a namespace the host has in /run/netns. */
  async capture(device: string, filter: string, namespace?: string): Promise<Capture> {
    const capture = await startCapture(namespace === undefined ? this.netnsPath : this.#inside(`/run/netns/${namespace}`), device, filter);
    this.#captures.add(capture);
    return {
      stop: () => {
        this.#captures.delete(capture);
        return capture.stop();
      },
    };
  }

  /** A path of the host's, as this machine sees it. */
  #inside(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }
}

export interface Service {
  readonly log: string;
  start(): Promise<void>;
  /** Rejects when it does not end in the time that it has. */
  stop(): Promise<void>;
  /** SIGKILL; it stays down. */
  kill(): Promise<void>;
  /** SIGKILL; it is started again. */
  crash(): Promise<void>;
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
