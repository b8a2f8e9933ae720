/** Networks, names and ports, as users use them. */
import { weft, weftJson } from '../lab/weft.ts';
import { wait } from '../lab/run.ts';
import type { NetworkAnswer } from '../../agent/api.ts';
import type { Stage } from './stage.ts';

export async function networksChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const [h1, h2, h3] = [stage.host(1), stage.host(2), stage.host(3)];
  story.chapter('2. A network made on one host is on all of them');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--label', 'team=blue', 'web');
  await h1.docker('network', 'create', '-d', 'weft-overlay', '--ipam-driver', 'weft', 'back');
  const facts = (host: typeof h1, name: string) => host.docker('network', 'inspect', '-f', '{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}} {{.Labels}}', name).catch(() => '');
  for (const name of ['web', 'back']) {
    const wanted = await facts(h1, name);
    for (const host of [h2, h3]) await story.eventually(`${name} is on ${host.name}, with the same subnet and labels`, async () => await facts(host, name) === wanted, 2_000, () => facts(host, name));
  }
  const started = await Promise.allSettled(stage.hosts.flatMap((host) => [1, 2].map((i) => stage.run(host, `same-${i}`, i === 1 ? 'web' : 'back'))));
  const failures = started.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []));
  story.check('containers start on all hosts at once', failures.length === 0, failures.join('\n'));
  const addresses = (await Promise.all(stage.hosts.flatMap((host) => [1, 2].map((i) => host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', `same-${i}`))))).sort();
  story.check('no two have the same address', new Set(addresses).size === addresses.length && !addresses.includes(''), addresses.join(' '));
  for (const host of stage.hosts) await host.docker('rm', '-f', 'same-1', 'same-2');
}

export async function namesChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const [h1, h2, h3] = [stage.host(1), stage.host(2), stage.host(3)];
  story.chapter('3. Containers find each other by name, on any host');
  await Promise.all([
    stage.run(h1, 'api', 'web', ['--network-alias', 'backend']),
    stage.run(h2, 'worker', 'web', ['--label', 'com.docker.compose.project=shop', '--label', 'com.docker.compose.service=jobs', '--network-alias', 'jobs']),
    stage.run(h3, 'front', 'web'),
    stage.run(h3, 'stranger', 'back'),
  ]);
  await h2.docker('network', 'connect', 'back', 'worker');
  const places = [[h1, 'api'], [h2, 'worker'], [h3, 'front']] as const;
  for (const [host, from] of places) {
    for (const to of ['api', 'worker', 'front', 'backend', 'jobs']) await story.eventually(`${from} reaches ${to} by name`, () => stage.reaches(host, from, to), 5_000, () => stage.lookup(host, from, to));
  }
  await h1.docker('network', 'connect', 'back', 'api');
  await story.eventually('connected while it runs, api is found on its second network', () => stage.reaches(h3, 'stranger', 'api'), 5_000, () => stage.lookup(h3, 'stranger', 'api'));
  await h1.docker('network', 'disconnect', 'back', 'api');
  const route = await h1.docker('exec', 'api', 'traceroute', '-n', '-m', '3', 'front');
  story.check('one hop from host to host', /^ 1 /m.test(route) && !/^ 2 /m.test(route), route);
  const front = await h3.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'front');
  const reverse = await stage.lookup(h1, 'api', front);
  story.check('an address is looked up as front.web', /name = front\.web/.test(reverse), reverse);
  story.check('a container of another network does not resolve the name', !await stage.resolves(h3, 'stranger', 'front'));
  story.check('and does not reach the address', !await stage.reaches(h3, 'stranger', front));
  const outside = await stage.lookup(h2, 'worker', 'outside.example');
  story.check('a name outside resolves through the upstream', /192\.0\.2\.7/.test(outside), outside);
}

export async function portsChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const [h1, h2, h3] = [stage.host(1), stage.host(2), stage.host(3)];
  story.chapter('4. A published port answers on every host, and the server sees who asks');
  await stage.run(h1, 'shop-1', 'web', ['-p', '8080:80', '--label', 'weft.service=shop'], ['sh', '-c', 'echo one > /www/index.html; exec httpd -f -v -h /www']);
  for (const host of stage.hosts) await story.eventually(`port 8080 of ${host.name} answers`, async () => await stage.fetch(host, 8080) === 'one\n', 5_000, () => stage.fetch(host, 8080));
  const log = await h1.tryDocker('logs', 'shop-1');
  const seen = new Set([...`${log.stdout}${log.stderr}`.matchAll(/(\d+\.\d+\.\d+\.\d+)\]?:\d+: response:200/g)].map((match) => match[1]));
  story.check(`the server's log shows the client's own address (${[...seen].join(', ')})`, seen.size === 1 && seen.has(stage.outside));
  await stage.run(h2, 'shop-2', 'web', ['-p', '8080:80', '--label', 'weft.service=shop'], ['sh', '-c', 'echo two > /www/index.html; exec httpd -f -h /www']);
  await story.eventually('two containers of one service share the load', async () => {
    const answers = await Promise.all(Array.from({ length: 30 }, () => stage.fetch(h3, 8080)));
    return answers.every((answer) => answer === 'one\n' || answer === 'two\n') && new Set(answers).size === 2;
  }, 5_000);
  const held = await h3.tryDocker('run', '-d', '--network', 'web', '-p', '8080:80', '--name', 'rival', 'weft-lab', 'sleep', '100');
  story.check('another service cannot have the port, and is told whose it is', held.code !== 0 && /WEFT-PORT-HELD.*shop/.test(held.stderr), held.stderr);
  await h3.tryDocker('rm', '-f', 'rival');
  await stage.run(h1, 'admin', 'web', ['-p', '8081:80'], ['sh', '-c', 'echo admin > /www/index.html; exec httpd -f -h /www']);
  await story.eventually('a port that host 3 uses itself is published on the others', async () => await stage.fetch(h2, 8081) === 'admin\n', 5_000);
  story.check('host 3\'s own program still has it', (await stage.lab.on('outside', ['sh', '-c', `timeout 2 busybox nc ${h3.address} 8081`])).stdout === 'mine\n');
  await story.eventually('and `weft ps` says that it is left out there', async () => /8081\/tcp +admin .*h3 \(in use there\)/.test((await weft(h1, 'ps')).stdout), 5_000, async () => (await weft(h1, 'ps')).stdout);
  const own = await h3.tryDocker('run', '-d', '--network', 'web', '-p', '8081:80', '--label', 'weft.service=admin', '--name', 'admin-3', 'weft-lab', 'sleep', '100');
  story.check('on that host itself the start fails, with the reason', own.code !== 0 && /WEFT-PORT-HOST/.test(own.stderr), own.stderr);
  await h3.tryDocker('rm', '-f', 'admin-3');
  await h1.docker('rm', '-f', 'admin');
}

export async function bridgeChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const h2 = stage.host(2);
  story.chapter('5. weft-bridge: a network of one host');
  await h2.docker('network', 'create', '-d', 'weft-bridge', 'local');
  await stage.run(h2, 'site', 'local', ['-p', '8090:80'], ['sh', '-c', 'echo site > /www/index.html; exec httpd -f -v -h /www']);
  await stage.run(h2, 'client', 'local');
  await story.eventually('its published port answers', async () => await stage.fetch(h2, 8090) === 'site\n', 5_000);
  story.check('names resolve on it', await stage.reaches(h2, 'client', 'site'));
  story.check('it reaches the outside', await stage.reaches(h2, 'client', stage.outside));
  const capture = await h2.capture('eth0', `icmp and host ${stage.outside}`);
  await stage.reaches(h2, 'client', stage.outside);
  const text = await capture.stop();
  story.check('masqueraded as its host', new RegExp(`${h2.address} > ${stage.outside}: ICMP echo request`).test(text) && !/172\.\d+\.\d+\.\d+ >/.test(text), text);
  const worker = await h2.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'worker');
  const site = await h2.docker('inspect', '-f', '{{.NetworkSettings.Networks.local.IPAddress}}', 'site');
  story.check('it does not reach other networks', !await stage.reaches(h2, 'client', worker));
  story.check('nor they it', !await stage.reaches(h2, 'worker', site));
  await h2.docker('rm', '-f', 'site', 'client');
  await h2.docker('network', 'rm', 'local');
  await wait(500);
  const left = await weftJson<NetworkAnswer[]>(h2, 'network', 'ls');
  story.check('removed, it leaves nothing', !left.some(({ name }) => name === 'local') && !/wbr-/.test((await h2.exec(['ip', '-o', 'link'])).stdout));
}
