/**
 *   outside 10.99.9.10
 *      |
 *   router
 *      |
 *     h1       Docker; networks of weft-bridge, one for each option
 *
 * Docker's own options of its bridge driver, as dockerd hands them over, each with what it does.
 */
import tap, { test } from 'tap';
import type { PsAnswer } from '../agent/api.ts';
import { IMAGE } from './lab/image.ts';
import { createLab, OUTSIDER_ADDRESS } from './lab/lab.ts';
import { until, type Result } from './lab/run.ts';
import { weft, weftJson, weftUp } from './lab/weft.ts';

tap.setTimeout(420_000);

const BRIDGE = 'com.docker.network.bridge.';
/** Says by whose address it was asked. */
const WHO = 'require("net").createServer((socket) => socket.end(socket.remoteAddress)).listen(7000, "0.0.0.0")';
const LEFT = 'ip -o link | sed "s/^[0-9]*: //; s/[:@].*//" | sort; ip -4 -o address | awk \'{print $2, $4}\' | sort; ip route; ls /run/netns; nft list ruleset | grep -i weft; iptables -S FORWARD | grep -iE "w(eft|br)|br9|site"; true';

void test('options of bridge networks', async (t) => {
  const lab = await createLab({ name: 'bridge', hosts: 1, docker: true });
  t.teardown(() => lab.destroy());
  const h1 = lab.host(1);
  const pristine = await h1.must(['sh', '-c', LEFT]);
  const service = await weftUp(h1);
  await until('Docker answers', async () => /docker +answers/.test((await weft(h1, 'status')).stdout));
  lab.spawnOn('outside', [process.execPath, '-e', WHO]);

  const create = (name: string, ...args: string[]): Promise<Result> => h1.tryDocker('network', 'create', '-d', 'weft-bridge', ...args, name);
  const make = async (name: string, ...args: string[]): Promise<void> => {
    const { code, stderr } = await create(name, ...args);
    if (code !== 0) throw new Error(stderr);
  };
  const option = (name: string, value: string): string[] => ['-o', `${BRIDGE}${name}=${value}`];
  /** Answers on 80 and 81 with its name. Returns its address. */
  const run = async (name: string, network: string, ...args: string[]): Promise<string> => {
    await h1.docker('run', '-d', '--stop-signal', 'KILL', '--network', network, '--name', name, '--hostname', name, ...args, IMAGE, 'sh', '-c', 'nc -ll -p 81 -e hostname & exec nc -ll -p 80 -e hostname');
    return h1.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', name);
  };
  const inside = async (container: string, ...command: string[]): Promise<string> => (await h1.tryDocker('exec', container, ...command)).stdout.trim();
  const remove = async (network: string, ...containers: string[]): Promise<void> => {
    if (containers.length > 0) await h1.docker('rm', '-f', ...containers);
    await h1.docker('network', 'rm', network);
  };
  const nc = (address: string, port: number): string[] => ['timeout', '2', 'nc', '-w', '1', address, String(port)];
  const fromOutside = async (address: string, port: number): Promise<string> => (await lab.on('outside', ['busybox', ...nc(address, port)])).stdout.trim();
  const fromHost = async (address: string, port: number): Promise<string> => (await h1.exec(['busybox', ...nc(address, port)])).stdout.trim();
  const from = (container: string, address: string, port: number): Promise<string> => inside(container, ...nc(address, port));
  const route = (subnet: string): Promise<Result> => lab.on('router', ['ip', 'route', 'replace', subnet, 'via', h1.address]);
  /** As whom the outside sees a container. */
  const seenAs = (container: string): Promise<string> => from(container, OUTSIDER_ADDRESS, 7000);
  const link = async (...args: string[]): Promise<string> => (await h1.exec(['ip', ...args])).stdout;

  await t.test('what is refused', async (t) => {
    const cases: [string[], RegExp][] = [
      [option('enable_icq', 'true'), /WEFT-OPTION-UNKNOWN.*com\.docker\.network\.bridge\.enable_icc/],
      [option('enable_icc', 'yes'), /WEFT-OPTION-VALUE.*enable_icc cannot be yes; give true or false/],
      [option('gateway_mode_ipv4', 'routd'), /WEFT-OPTION-VALUE.*give one of nat, nat-unprotected, routed, isolated/],
      [option('gateway_mode_ipv4', 'isolated'), /WEFT-OPTION-VALUE.*--internal/],
      [option('host_binding_ipv4', '::1'), /WEFT-OPTION-VALUE.*IPv4 address/],
      [option('name', 'a/b'), /WEFT-OPTION-VALUE.*letters/],
      [option('name', 'eth0'), /WEFT-OPTION-VALUE.*no bridge/],
      [option('name', 'wbr-mine'), /WEFT-OPTION-VALUE/],
      [option('default_bridge', 'true'), /WEFT-OPTION-VALUE/],
      [['-o', 'com.docker.network.host_ipv4=fd00::1'], /WEFT-OPTION-VALUE.*IPv4 address/],
      [['--internal', '--subnet', '10.60.0.0/24', '--aux-address', 'DefaultGatewayIPv4=10.60.0.9'], /WEFT-OPTION-VALUE.*internal network has no gateway/],
    ];
    for (const [args, says] of cases) t.match(await create('wrong', ...args), { code: 1, stderr: says }, args.join(' '));
    t.equal(await h1.docker('network', 'ls', '-q', '--filter', 'driver=weft-bridge'), '');
  });

  await t.test('without any option', async (t) => {
    await make('plain', '--subnet', '10.61.0.0/24');
    const [one, two] = [await run('one', 'plain', '-p', '8080:80'), await run('two', 'plain')];
    t.equal(await from('one', two, 80), 'two');
    t.equal(await seenAs('one'), h1.address, 'masqueraded');
    for (const ask of [fromOutside, fromHost]) t.equal(await ask(h1.address, 8080), 'one');
    t.equal(await fromHost('127.0.0.1', 8080), 'one');
    t.equal(await from('one', h1.address, 8080), 'one', 'from itself');
    t.equal(await from('two', h1.address, 8080), 'one');
    t.equal(await fromHost(one, 81), 'one', 'the host reaches its containers');
    await route('10.61.0.0/24');
    for (const port of [80, 81]) t.equal(await fromOutside(one, port), '', 'an outsider who routes at them does not');
    t.match(await link('-n', 'weft-bridge', '-br', 'link'), /^wb-.*\n(.*\n)*we-/m, 'the bridge stands apart');
    t.match(await inside('one', 'ip', 'route'), /default via 10\.61\.0\.1 dev eth0/);
    await remove('plain', 'one', 'two');
  });

  await t.test('enable_icc=false', async (t) => {
    await make('apart', ...option('enable_icc', 'false'));
    const [one] = [await run('one', 'apart', '-p', '8080:80'), await run('two', 'apart')];
    t.equal(await from('two', one, 80), '');
    await inside('two', 'ip', 'route', 'add', one, 'via', (await inside('two', 'ip', 'route')).split(' ')[2]!);
    t.equal(await from('two', one, 80), '', 'not by way of the gateway either');
    t.equal(await from('two', h1.address, 8080), 'one', 'what is published is for all');
    t.equal(await seenAs('two'), h1.address);
    await remove('apart', 'one', 'two');
  });

  await t.test('enable_ip_masquerade=false', async (t) => {
    await make('plain', '--subnet', '10.62.0.0/24', ...option('enable_ip_masquerade', 'false'));
    const one = await run('one', 'plain', '-p', '8080:80');
    await route('10.62.0.0/24');
    t.equal(await seenAs('one'), one);
    t.equal(await fromOutside(h1.address, 8080), 'one');
    t.equal(await fromOutside(one, 80), '', 'still closed');
    await remove('plain', 'one');
  });

  await t.test('host_ipv4', async (t) => {
    await h1.must(['ip', 'address', 'add', '10.99.1.77/32', 'dev', 'eth0']);
    await lab.on('router', ['ip', 'route', 'replace', '10.99.1.77', 'via', h1.address]);
    await make('plain', '-o', 'com.docker.network.host_ipv4=10.99.1.77');
    await run('one', 'plain');
    t.equal(await seenAs('one'), '10.99.1.77');
    await remove('plain', 'one');
    await h1.must(['ip', 'address', 'del', '10.99.1.77/32', 'dev', 'eth0']);
  });

  await t.test('host_binding_ipv4', async (t) => {
    await make('bound', ...option('host_binding_ipv4', '127.0.0.1'));
    await run('one', 'bound', '-p', '8080:80', '-p', `${h1.address}:8081:81`);
    t.equal(await fromHost('127.0.0.1', 8080), 'one');
    t.equal(await fromOutside(h1.address, 8080), '');
    t.equal(await fromOutside(h1.address, 8081), 'one', 'an address that is named counts');
    await remove('bound', 'one');
  });

  await t.test('inhibit_ipv4', async (t) => {
    await make('quiet', '--subnet', '10.63.0.0/24', ...option('inhibit_ipv4', 'true'));
    await run('one', 'quiet');
    const two = await run('two', 'quiet');
    t.notMatch(await link('-4', 'address'), /10\.63\./, 'the host has no address there');
    t.equal(await from('one', two, 80), 'two');
    t.match(await inside('one', 'ip', 'route'), /default via 10\.63\.0\.1/, 'whoever has it is the gateway');
    await remove('quiet', 'one', 'two');
  });

  await t.test('gateway_mode_ipv4=nat-unprotected', async (t) => {
    await make('other', '--subnet', '10.64.1.0/24');
    await make('soft', '--subnet', '10.64.0.0/24', ...option('gateway_mode_ipv4', 'nat-unprotected'));
    const one = await run('one', 'soft', '-p', '8080:80');
    await run('two', 'other');
    await route('10.64.0.0/24');
    t.equal(await fromOutside(h1.address, 8080), 'one');
    t.equal(await fromOutside(one, 81), 'one', 'every port, at the container\'s address');
    t.equal(await from('two', one, 81), '', 'networks of one host stay apart');
    t.equal(await seenAs('one'), h1.address);
    await remove('soft', 'one');
    await remove('other', 'two');
  });

  await t.test('gateway_mode_ipv4=routed', async (t) => {
    await make('other', '--subnet', '10.65.1.0/24');
    await make('open', '--subnet', '10.65.0.0/24', ...option('gateway_mode_ipv4', 'routed'));
    const one = await run('one', 'open', '-p', '8080:80');
    const two = await run('two', 'other');
    await route('10.65.0.0/24');
    t.equal(await fromOutside(one, 80), 'one', 'what is published, at the container\'s address');
    t.equal(await fromOutside(one, 81), '', 'and nothing else');
    t.equal((await lab.on('outside', ['busybox', 'ping', '-c', '1', '-W', '1', one])).code, 0);
    t.equal(await fromOutside(h1.address, 8080), '', 'nothing is translated');
    t.equal(await seenAs('one'), one);
    t.equal(await from('two', one, 80), 'one', 'from another network as well');
    t.equal(await from('one', two, 80), '');
    t.match((await weftJson<PsAnswer>(h1, 'ps')).ports, [{ protocol: 'tcp', hostIp: one, port: 80, service: 'one', mode: 'host' }]);
    await remove('open', 'one');
    await remove('other', 'two');
  });

  await t.test('gateway_mode_ipv4=isolated', async (t) => {
    await make('cut', '--internal', '--subnet', '10.66.0.0/24', ...option('gateway_mode_ipv4', 'isolated'));
    const [one, two] = [await run('one', 'cut'), await run('two', 'cut')];
    t.equal(await from('one', two, 80), 'two');
    t.equal(await fromHost(one, 80), '', 'not even the host is there');
    t.notMatch(await link('-4', 'address'), /10\.66\./);
    await remove('cut', 'one', 'two');
    await make('inner', '--internal', '--subnet', '10.66.0.0/24');
    t.equal(await fromHost(await run('one', 'inner'), 80), 'one', 'as it is on an internal network otherwise');
    t.equal(await seenAs('one'), '');
    await remove('inner', 'one');
  });

  await t.test('trusted_host_interfaces', async (t) => {
    await make('known', '--subnet', '10.67.0.0/24', ...option('trusted_host_interfaces', 'eth7:eth0'));
    const one = await run('one', 'known', '-p', '8080:80');
    await route('10.67.0.0/24');
    t.equal(await fromOutside(one, 80), 'one');
    t.equal(await fromOutside(one, 81), '', 'published ports only');
    await remove('known', 'one');
  });

  await t.test('DefaultGatewayIPv4', async (t) => {
    await make('elsewhere', '--subnet', '10.68.0.0/24', '--aux-address', 'DefaultGatewayIPv4=10.68.0.9');
    await run('one', 'elsewhere');
    t.match(await inside('one', 'ip', 'route'), /default via 10\.68\.0\.9/);
    t.match(await link('-4', 'address'), /10\.68\.0\.1\/24/, 'the host keeps its own');
    await remove('elsewhere', 'one');
  });

  await t.test('mtu and container_iface_prefix', async (t) => {
    await make('big', '-o', 'com.docker.network.driver.mtu=9000', '-o', 'com.docker.network.container_iface_prefix=lan');
    await run('one', 'big');
    const two = await run('two', 'big');
    t.match(await inside('one', 'ip', 'link', 'show', 'lan0'), /mtu 9000/);
    t.equal((await h1.tryDocker('exec', 'one', 'ping', '-c', '1', '-W', '1', '-s', '8900', two)).code, 0);
    t.equal(await seenAs('one'), h1.address);
    await remove('big', 'one', 'two');
  });

  await t.test('name: a bridge of the host\'s', async (t) => {
    await make('site', '--subnet', '10.69.0.0/24', ...option('name', 'site0'));
    const [, two] = [await run('one', 'site', '-p', '8080:80'), await run('two', 'site')];
    t.match(await link('-d', 'link', 'show', 'site0'), /bridge/);
    t.match(await link('link', 'show', 'master', 'site0'), /we-.*\n.*\n.*we-/);
    t.equal(await from('one', two, 80), 'two');
    for (const [address, port] of [[h1.address, 8080], ['127.0.0.1', 8080]] as const) t.equal(await fromHost(address, port), 'one');
    t.equal(await fromOutside(h1.address, 8080), 'one');
    t.equal(await from('one', h1.address, 8080), 'one', 'from itself');
    t.equal(await seenAs('two'), h1.address);
    t.match((await create('again', ...option('name', 'site0'))).stderr, /WEFT-OPTION-VALUE.*it is the bridge of network/);
    await remove('site', 'one', 'two');
    t.equal(await link('link', 'show', 'site0'), '', 'made for the network, gone with it');
  });

  await t.test('name: a bridge that is there already', async (t) => {
    await h1.must(['sh', '-c', 'ip link add br9 type bridge && ip link set br9 up && ip address add 10.70.0.1/24 dev br9']);
    await make('adopted', '--subnet', '10.70.0.0/24', '--gateway', '10.70.0.1', ...option('name', 'br9'));
    await run('one', 'adopted', '-p', '8080:80');
    t.equal(await fromOutside(h1.address, 8080), 'one');
    t.equal(await seenAs('one'), h1.address);
    await remove('adopted', 'one');
    t.match(await link('-4', '-o', 'address', 'show', 'dev', 'br9'), /10\.70\.0\.1\/24/, 'its address was its own, and stays');
    await make('adopted', '--subnet', '10.71.0.0/24', ...option('name', 'br9'), ...option('enable_icc', 'false'));
    const first = await run('one', 'adopted');
    await run('two', 'adopted');
    t.equal(await fromHost(first, 80), 'one');
    t.equal(await from('two', first, 80), '');
    await remove('adopted', 'one', 'two');
    t.match(await link('-4', '-o', 'address', 'show', 'dev', 'br9'), /^.*10\.70\.0\.1\/24.*\n$/, 'an address that it was given goes');
    await h1.must(['ip', 'link', 'del', 'br9']);
  });

  await t.test('nothing stays', async (t) => {
    await h1.must(['sh', '-c', 'ip link add br9 type bridge && ip link set br9 up && ip address add 10.70.0.1/24 dev br9']);
    for (const [name, ...args] of [['plain'], ['site', ...option('name', 'site0')], ['adopted', '--subnet', '10.71.0.0/24', ...option('name', 'br9')]] as const) {
      await make(name, ...args);
      await run(`${name}1`, name);
    }
    await service.stop();
    const { code, stdout, stderr } = await weft(h1, 'down', '--purge');
    t.equal(code, 0, `${stdout}${stderr}`);
    t.match(await link('-4', '-o', 'address', 'show', 'dev', 'br9'), /^.*10\.70\.0\.1\/24.*\n$/, 'what was adopted is as it was');
    await h1.must(['ip', 'link', 'del', 'br9']);
    await h1.docker('rm', '-f', 'plain1', 'site1', 'adopted1');
    t.equal(await h1.must(['sh', '-c', LEFT]), pristine);
  });
});
