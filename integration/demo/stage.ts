/** The hosts of the story, and the questions it asks them. */
import { readFileSync } from 'node:fs';
import { must, until } from '../lab/run.ts';
import type { Host, Service } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { Lab, OUTSIDER_ADDRESS, createLab } from '../lab/lab.ts';
import { Story } from '../lab/story.ts';
import { ready, startWeftd, weft, weftJson, weftUp } from '../lab/weft.ts';

/** As `ufw enable` leaves a host, with the openings that docs/reference/ports.md names. */
const UFW = `
iptables -P INPUT DROP
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -p icmp -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
iptables -A INPUT -s 10.99.0.0/16 -p tcp --dport 7947 -j ACCEPT
iptables -A INPUT -s 10.99.0.0/16 -p udp --dport 7947 -j ACCEPT
iptables -A INPUT -s 10.99.0.0/16 -p udp --dport 4789 -j ACCEPT
iptables -A INPUT -s 10.99.0.0/16 -p tcp --dport 7948:7949 -j ACCEPT
`;

export class Stage {
  readonly story = new Story();
  readonly services = new Map<string, Service>();
  readonly snapshots = new Map<string, string>();
  readonly lab: Lab;
  /** Links of the machine before there were hosts. */
  readonly #cards: readonly string[];

  private constructor(lab: Lab, links: readonly string[]) {
    this.lab = lab;
    this.#cards = links;
  }

  static async open({ hosts, engine }: { hosts: number; engine: string | undefined }): Promise<Stage> {
    const before = await cards();
    return new Stage(await createLab({ name: 'demo', hosts, docker: false, engine }), before);
  }

  host(number: number): Host {
    return this.lab.host(number);
  }

  get hosts(): readonly Host[] {
    return this.lab.hosts;
  }

  service(host: Host): Service {
    return this.services.get(host.name)!;
  }

  async up(): Promise<void> {
    const { story, lab } = this;
    story.chapter(`1. ${this.hosts.length} hosts on two routed subnets, each with its own dockerd, ugly as hosts are`);
    await this.host(1).must(['sh', '-ec', UFW]);
    await lab.addNic(2);
    await this.host(2).must(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1']);
    this.host(3).spawn(['busybox', 'nc', '-ll', '-p', '8081', '-e', 'echo', 'mine']);
    await Promise.all(this.hosts.map((host) => host.startDocker()));
    const versions = await Promise.all(this.hosts.map((host) => host.docker('version', '-f', '{{.Server.Version}}')));
    story.check(`dockerd runs on all of them (${versions.join(', ')})`, versions.every((version) => version !== ''));
    void lab.on('outside', [process.execPath, new URL('../lab/upstream.ts', import.meta.url).pathname, 'outside.example=192.0.2.7']);
    for (const host of this.hosts) this.snapshots.set(host.name, await snapshot(host));
    const refused = await weft(this.host(2), 'up', '--no-start');
    story.check('with two network cards and no --advertise: refused, and both are listed', refused.code !== 0 && /10\.99\.2\.2 \(eth0\), 10\.99\.102\.2 \(eth1\)/.test(refused.stderr), refused.stderr);
    const start = performance.now();
    await this.#found();
    await this.#firstPing(start);
    await story.eventually('weftd runs on all of them, and each sees the others', async () => {
      const { stdout } = await weft(this.host(1), 'status');
      return (stdout.match(/ alive$/gm) ?? []).length === this.hosts.length;
    }, 15_000, async () => (await weft(this.host(1), 'status')).stdout);
  }

  /** weft up, weft token, weft join, weft join. */
  async #found(): Promise<void> {
    const { story } = this;
    const [first, ...others] = this.hosts;
    this.services.set(first!.name, await weftUp(first!, { advertise: first!.address }));
    const { token } = await until('a token', () => weftJson<{ token: string }>(first!, 'token'), 40_000);
    story.check(`weft up and weft token on h1: the others join by ${token.slice(0, 12)}…`, token.endsWith(`@${first!.address}:7947`));
    for (const host of others) {
      const start = performance.now();
      const joined = await weft(host, 'join', token, '--no-start', '--name', host.name, '--advertise', host.address);
      story.check(`weft join on ${host.name}`, joined.code === 0, joined.stderr);
      this.services.set(host.name, await startWeftd(host));
      await ready(host);
      await story.eventually('it is in the cluster', async () => new RegExp(` ${host.name} .* alive$`, 'm').test((await weft(first!, 'node', 'ls')).stdout), 10_000, async () => (await weft(first!, 'node', 'ls')).stdout);
      const took = (performance.now() - start) / 1000;
      story.check(`in less than 10 s (${took.toFixed(1)} s)`, took < 10);
    }
  }

  /** `start`: when the first `weft up` was given. What people judge it by. */
  async #firstPing(start: number): Promise<void> {
    const { story } = this;
    const [h1, h3] = [this.host(1), this.host(3)];
    await weftJson(h1, 'network', 'create', '-d', 'overlay', 'first');
    await until('it is on h3', async () => (await h3.docker('network', 'ls', '-q', '--filter', 'name=^first$')) !== '', 10_000);
    await Promise.all([this.run(h1, 'here', 'first'), this.run(h3, 'there', 'first')]);
    await until('a ping', () => this.reaches(h1, 'here', 'there'), 10_000);
    const took = (performance.now() - start) / 1000;
    story.check(`up and token, join, join, a network: the first ping from host to host is less than 60 s later (${took.toFixed(1)} s)`, took < 60);
    await Promise.all([h1.docker('rm', '-f', 'here'), h3.docker('rm', '-f', 'there')]);
    await until('the network can go', async () => (await weft(h1, 'network', 'rm', 'first')).code === 0, 10_000);
  }

  /** The store has no majority: two of its three copies stand still. */
  async stopStore(): Promise<void> {
    for (const host of [this.host(1), this.host(2)]) await host.must(['pkill', '-STOP', '-x', 'etcd']);
  }

  async continueStore(): Promise<void> {
    for (const host of [this.host(1), this.host(2)]) await host.must(['pkill', '-CONT', '-x', 'etcd']);
  }

  /** Starts a container that sleeps, or what is said. */
  run(host: Host, name: string, network: string, options: readonly string[] = [], command: readonly string[] = ['sleep', '100000']): Promise<string> {
    return host.docker('run', '-d', '--stop-signal', 'KILL', '--name', name, '--network', network, ...options, IMAGE, ...command);
  }

  /** Whether a name is resolved and its owner answers; with `hops` only within so many. */
  async reaches(host: Host, container: string, target: string, ...more: string[]): Promise<boolean> {
    return (await host.tryDocker('exec', container, 'ping', '-c', '1', '-W', '1', ...more, target)).code === 0;
  }

  async lookup(host: Host, container: string, name: string): Promise<string> {
    return (await host.tryDocker('exec', container, 'timeout', '6', 'nslookup', name)).stdout;
  }

  async resolves(host: Host, container: string, name: string): Promise<boolean> {
    return /^Name:/m.test(await this.lookup(host, container, name));
  }

  /** An HTTP request from the outside machine. */
  async fetch(host: Host, port: number): Promise<string> {
    return (await this.lab.on('outside', ['curl', '-s', '-m', '2', `http://${host.address}:${port}/`])).stdout;
  }

  get outside(): string {
    return OUTSIDER_ADDRESS;
  }

  log(host: Host): string {
    return readFileSync(`${host.directory}/weftd.log`, 'utf8');
  }

  explainKeeping(): void {
    const [first] = this.hosts;
    console.log(`\nThe hosts stay. A shell on h1:  nsenter -t ${first!.pid} -m -n -u -i -p\nIn it: docker ps, ip -n weft link, nft list ruleset, and ${process.execPath} ${new URL('../../dist/weft.cjs', import.meta.url).pathname} status\nThe next run of the demo removes them.`);
  }

  async close(): Promise<void> {
    const { story } = this;
    story.chapter('The hosts are removed');
    await this.lab.destroy();
    const left = [...await remains(), ...(await cards()).filter((card) => !this.#cards.includes(card))];
    story.check('no namespace, mount, process or link of theirs is left', left.length === 0, left.join('\n'));
  }
}

const cards = async (): Promise<string[]> => (await must(['ip', '-o', 'link'])).split('\n').flatMap((line) => line.split(': ')[1] ?? []);

/** What is on the machine of hosts of a story, this one or one that was kept. */
async function remains(): Promise<string[]> {
  const [namespaces, processes] = [await must(['ip', 'netns', 'list']), await must(['ps', '-eo', 'args'])];
  const lines = [namespaces, processes, readFileSync('/proc/self/mounts', 'utf8')].join('\n').split('\n');
  return lines.filter((line) => line.includes('.lab/demo') || line.includes('wl-demo'));
}

const SNAPSHOT = `
ip -o link | awk -F': ' '{print $2}' | sed 's/@.*//' | grep -v ^veth | sort
ip -o addr | awk '{print $2, $3, $4}' | sort
ip route; ip rule
nft -s list ruleset
iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'
sysctl -a 2>/dev/null | grep '^net\\.' | grep -v -e nf_conntrack_count -e random -e '\\.veth' -e neigh -e 'nf_conntrack_max' | sort
docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' | sort
ls /etc/weft /run/weft /var/lib/weft 2>/dev/null | grep -v weft.json
`;

export const snapshot = async (host: Host): Promise<string> => (await host.exec(['sh', '-c', SNAPSHOT])).stdout;
