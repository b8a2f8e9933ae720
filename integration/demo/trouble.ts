/** Crashes, repairs, power cuts, and the way out. */

import type { Host } from '../lab/host.ts';
import { wait } from '../lab/run.ts';
import { ready, startWeftd, weft } from '../lab/weft.ts';
import { snapshot, type Stage } from './stage.ts';

const LINES = 300;
/** Some eight seconds; minutes where starting a process takes long, as each line does. */
const STREAM_S = 300;

/** A slow TCP stream from one container to another; resolves with what arrived. */
async function stream(from: { host: Host; container: string }, to: { host: Host; container: string; name: string }, port: number): Promise<string> {
  const file = `/tmp/stream-${port}`;
  await to.host.docker('exec', '-d', to.container, 'sh', '-c', `sleep ${STREAM_S} | nc -l -p ${port} > ${file}`);
  await wait(300);
  const lines = `i=0; while [ $i -lt ${LINES} ]; do echo line $i; i=$((i+1)); sleep 0.025; done`;
  await from.host.exec(['docker', 'exec', from.container, 'sh', '-c', `${lines} | nc -w 20 ${to.name} ${port}`], { timeoutMs: 1000 * STREAM_S });
  await wait(300);
  return (await to.host.tryDocker('exec', to.container, 'cat', file)).stdout;
}

const whole = Array.from({ length: LINES }, (_, i) => `line ${i}\n`).join('');

export async function troubleChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const [h1, h2, h3] = [stage.host(1), stage.host(2), stage.host(3)];
  story.chapter('6. weftd is killed, things are broken behind its back, Docker restarts');
  await stage.run(h2, 'neighbour', 'web');
  const ip = async (host: Host, name: string): Promise<string> => host.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', name);
  const [front, api, worker] = [await ip(h3, 'front'), await ip(h1, 'api'), await ip(h2, 'worker')];
  const streams = Promise.all([
    stream({ host: h1, container: 'api' }, { host: h3, container: 'front', name: front }, 7001),
    stream({ host: h3, container: 'front' }, { host: h2, container: 'worker', name: worker }, 7002),
    stream({ host: h2, container: 'neighbour' }, { host: h1, container: 'api', name: api }, 7003),
  ]);
  await wait(2_500);
  await stage.service(h2).kill();
  story.check('while weftd is down, Docker\'s resolver answers local names', await stage.reaches(h2, 'neighbour', 'worker'), await stage.lookup(h2, 'neighbour', 'worker'));
  const fdb = (await h2.must(['bridge', '-n', 'weft', 'fdb'])).split('\n').find((line) => / dev wv-\S+ dst /.test(line) && line.includes('self'))!;
  const [mac, , device, , vtep] = fdb.split(' ');
  await h2.must(['bridge', '-n', 'weft', 'fdb', 'del', mac!, 'dev', device!, 'dst', vtep!, 'self']);
  await h2.must(['nft', 'delete', 'element', 'inet', 'weft-ports', 'ports', '{ tcp . 8080 }']);
  const [first, second, third] = await streams;
  story.check('streams between other hosts lost nothing', first === whole, `${first.length} of ${whole.length} bytes`);
  story.check('nor those to and from this host', second === whole && third === whole, `${second.length} and ${third.length} of ${whole.length} bytes`);
  await h2.must(['ip', '-n', 'weft', 'link', 'set', device!, 'down']);
  await stage.service(h2).start();
  await ready(h2);
  const status = async (): Promise<string> => (await weft(h2, 'status')).stdout;
  await story.eventually('started again, it mends the forwarding entry, the nft element and the link, and says so', async () => {
    const text = await status();
    return /forwarding entries were missing/.test(text) && /published ports was not as left|had another up/.test(text);
  }, 5_000, status);
  await story.eventually('everything works again', async () => await stage.reaches(h2, 'worker', 'api') && (await stage.fetch(h2, 8080)) !== '', 5_000);
  await h2.must(['nft', 'delete table inet weft-ports; delete table inet weft-uplink']);
  await story.eventually('a flushed firewall is mended while it runs', async () => (await stage.fetch(h2, 8080)) !== '', 3_000, status);

  await h2.docker('restart', '-t', '1', 'worker');
  await story.eventually('a restarted container is found again', () => stage.reaches(h1, 'api', 'worker'), 5_000, () => stage.lookup(h1, 'api', 'worker'));
  for (const [how, act] of [
    ['dockerd restarted', async () => { await h2.stopDocker(); await h2.startDocker(); }],
    ['dockerd killed', async () => { await h2.stopDocker('KILL'); await h2.startDocker(); }],
    ['dockerd restarted with live-restore', async () => { await h2.stopDocker(); await h2.startDocker(['--live-restore']); await h2.tryDocker('start', 'worker'); await h2.stopDocker(); await h2.startDocker(['--live-restore']); }],
  ] as const) {
    await act();
    await h2.tryDocker('start', 'worker', 'shop-2');
    await story.eventually(`${how}: containers return to their networks`, () => stage.reaches(h1, 'api', 'worker'), 30_000, async () => `${await stage.lookup(h1, 'api', 'worker')}${(await h2.tryDocker('ps', '-a')).stdout}`);
  }
}

export async function removalChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const [h1, h2, h3] = [stage.host(1), stage.host(2), stage.host(3)];
  story.chapter('7. What is removed is gone everywhere, and what a prune takes comes back');
  const front = await h3.docker('inspect', '-f', '{{.NetworkSettings.Networks.web.IPAddress}}', 'front');
  await h3.docker('rm', '-f', 'front');
  await story.eventually('a second later at most, nobody reaches its address', async () => !await stage.reaches(h1, 'api', front), 1_000);
  story.check('and nobody finds its name', !await stage.resolves(h1, 'api', 'front') && !await stage.resolves(h2, 'worker', 'front'));
  await h3.docker('rm', '-f', 'stranger');
  await h3.docker('system', 'prune', '-f');
  await story.eventually('a prune on a host without containers does not take the cluster\'s networks away', async () => /^web weft-overlay$/m.test(await h3.docker('network', 'ls', '--format', '{{.Name}} {{.Driver}}')), 10_000);
  await story.eventually('and the log says so', async () => /a prune on one host/.test(stage.log(h3)), 2_000, async () => stage.log(h3).slice(-2000));
  await stage.run(h3, 'front', 'web', ['--restart', 'always', '-p', '8082:80'], ['sh', '-c', 'echo front > /www/index.html; exec httpd -f -h /www']);
  await story.eventually('the network works there', () => stage.reaches(h1, 'api', 'front'), 5_000);
}

export async function powerChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  const [h1, h3] = [stage.host(1), stage.host(3)];
  story.chapter('8. A host loses power, and returns while the store is away');
  await story.eventually('host 3\'s backend answers through host 1', async () => await stage.fetch(h1, 8082) === 'front\n', 5_000);
  await h3.powerCut();
  await story.eventually('its name vanishes on the others', async () => !await stage.resolves(h1, 'api', 'front'), 30_000);
  await story.eventually('its backend as well', async () => !/8082/.test((await weft(h1, 'ps')).stdout), 10_000, async () => (await weft(h1, 'ps')).stdout);
  await stage.stopStore();
  await h3.powerOn();
  stage.services.set(h3.name, await startWeftd(h3));
  await h3.startDocker();
  await ready(h3);
  await story.eventually('it returns: its container is found by name', () => stage.reaches(h1, 'api', 'front'), 30_000, async () => `${await stage.lookup(h1, 'api', 'front')}\n${(await h3.tryDocker('ps', '-a')).stdout}\n${h3.dockerLog().slice(-3000)}`);
  await story.eventually('and its port answers', async () => await stage.fetch(h1, 8082) === 'front\n', 10_000, async () => `${(await weft(h1, 'ps')).stdout}\n${stage.log(h3).slice(-3000)}`);
  const status = (await weft(h3, 'status')).stdout;
  story.check('with the store away all the while: status says so, what waits for it, and how many addresses are in hand', /^store .*: does not answer\n.*in hand: [1-9]\d* addresses left .*Waiting for the store:/m.test(status), status);
  await stage.continueStore();
  await story.eventually('the store is back', async () => !/^store .*: does not answer$/m.test((await weft(h3, 'status')).stdout), 15_000);
  await footprint(stage);
}

/** What came back is looked at once more by the repair that follows. */
const SETTLE_MS = 30_000;

/** RSS and CPU of weftd with three nodes, idle. */
async function footprint(stage: Stage): Promise<void> {
  const { story } = stage;
  const h1 = stage.host(1);
  const inner = await stage.service(h1).pid();
  const pid = Number((await h1.exec(['cat', `/proc/${inner}/status`])).stdout.match(/^Pid:\s+(\d+)/m)?.[1]);
  const read = async (path: string): Promise<string> => (await h1.exec(['cat', `/proc/${pid}/${path}`])).stdout;
  const ticks = async (): Promise<number> => {
    const fields = (await read('stat')).split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  // It has just heard of a store and a host that came back: that is not idle. Five to twenty seconds later it still takes 0.2 % more.
  await wait(SETTLE_MS);
  const before = await ticks();
  // As long as from one look at the kernel's state to the next.
  const seconds = 30;
  await wait(seconds * 1000);
  const cpu = ((await ticks()) - before) / seconds;
  const rss = Number((await read('status')).match(/^VmRSS:\s+(\d+)/m)?.[1]) / 1024;
  story.note(`weftd on ${h1.name}, three nodes, idle: ${rss.toFixed(1)} MB resident, ${cpu.toFixed(2)} % of a core`);
}

export async function purgeChapter(stage: Stage): Promise<void> {
  const { story } = stage;
  story.chapter('9. Weft is taken off a host, after a clean stop and after a crash');
  for (const [host, how] of [[stage.host(1), 'stop'], [stage.host(2), 'kill']] as const) {
    if (how === 'stop') await stage.service(host).stop();
    else await stage.service(host).kill();
    const purge = await weft(host, 'down', '--purge');
    story.check(`weft down --purge on ${host.name}, after a ${how}`, purge.code === 0, purge.stderr + purge.stdout);
    await host.tryDocker('rm', '-f', 'api', 'shop-1', 'worker', 'neighbour', 'shop-2', 'same-1', 'same-2');
    const before = stage.snapshots.get(host.name)!.split('\n');
    const after = (await snapshot(host)).split('\n');
    const more = after.filter((line) => !before.includes(line));
    const less = before.filter((line) => !after.includes(line));
    story.check('links, addresses, routes, rules, nft, iptables, sysctls and Docker\'s networks are as before', more.length === 0 && less.length === 0, `more: ${more.slice(0, 12).join(' | ')}\nless: ${less.slice(0, 12).join(' | ')}`);
  }
}
