import { execFileSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { test, type Test } from 'tap';
import { addressSet, openElements } from './nft-elements.ts';
import { watchNft } from './nft-monitor.ts';
import { openNft } from './nft.ts';
import { script, space, type Space } from './testing.ts';

/** Polls, since notifications come when they come; gives up after 5 s. */
async function until(condition: () => boolean): Promise<boolean> {
  for (let i = 0; i < 500 && !condition(); i++) await delay(10);
  return condition();
}

function watched(t: Test): Space & { told: string[] } {
  const made = space(t);
  const told: string[] = [];
  t.teardown(watchNft(made.netns, (change) => void told.push(change ? `${change.family} ${change.table}` : 'lost')));
  return { ...made, told };
}

test('what others change is told, by table', async (t) => {
  const { told, run } = watched(t);
  for (const [command, table] of [
    ['nft add table inet a', 'inet a'], ['nft add set inet a s { type ipv4_addr\\; }', 'inet a'], ['nft add element inet a s { 10.0.0.1 }', 'inet a'], ['nft add chain inet a c', 'inet a'],
    ['nft add rule inet a c accept', 'inet a'], ['iptables-nft -A FORWARD -j DROP', 'ip filter'], ['ip6tables-nft -A FORWARD -j DROP', 'ip6 filter'],
  ] as const) {
    told.length = 0;
    run('sh', '-c', command);
    t.ok(await until(() => told.includes(table)), command);
  }
  told.length = 0;
  run('nft', 'flush ruleset');
  t.ok(await until(() => told.length >= 3));
  t.same(told.sort(), ['inet a', 'ip filter', 'ip6 filter'], 'each once');
});

test('what we change ourselves is not', async (t) => {
  const { told, netns, run } = watched(t);
  const nft = openNft(netns);
  const elements = openElements(netns);
  t.teardown(() => {
    elements.close();
    nft.close();
  });
  nft.run('table inet ours {\n set s { type ipv4_addr\n }\n}\n');
  elements.add(addressSet({ family: 'inet', table: 'ours', name: 's' }), ['10.0.0.1']);
  run('nft', 'add table inet theirs');
  t.ok(await until(() => told.length > 0));
  t.same(told, ['inet theirs']);
});

test('nor is it in a PID namespace, where this process has another number', (t) => {
  const { path } = space(t);
  const printed = execFileSync('unshare', ['--pid', '--fork', '--kill-child', process.execPath, '--input-type=module-typescript', '--no-warnings', '-e', `
    import { setTimeout as delay } from 'node:timers/promises';
    import { openNetns } from '${import.meta.dirname}/netns.ts';
    import { watchNft } from '${import.meta.dirname}/nft-monitor.ts';
    import { openNft } from '${import.meta.dirname}/nft.ts';
    import { execFileSync } from 'node:child_process';
    const netns = openNetns('${path}');
    const told = [];
    watchNft(netns, (change) => told.push(change ? change.table : 'lost'));
    openNft(netns).run('table inet ours {}');
    netns.run(() => execFileSync('nft', ['add table inet theirs']));
    for (let i = 0; i < 500 && !told.includes('theirs'); i++) await delay(10);
    console.log(process.pid, told.join(' '));
    process.exit(0);
  `], { encoding: 'utf8', timeout: 20_000 });
  t.equal(printed, '1 theirs\n');
  t.end();
});

test('a handler that throws is reported and goes on being called, until stopped', async (t) => {
  const { netns, run } = space(t);
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  let calls = 0;
  let alive = 0;
  const stop = watchNft(netns, () => {
    calls++;
    throw new Error('from the handler');
  });
  t.teardown(stop);
  t.teardown(watchNft(netns, () => void alive++));
  run('nft', 'add table inet a');
  t.ok(await until(() => warnings.includes('from the handler')));
  run('nft', 'add table inet b');
  t.ok(await until(() => calls === 2 && alive === 2));
  stop();
  stop();
  run('nft', 'add table inet c');
  t.ok(await until(() => alive === 3));
  t.equal(calls, 2);
});

test('more changes than the socket holds: the loss is told, and what comes after it', async (t) => {
  const { path, netns, run } = space(t);
  const nft = openNft(netns);
  t.teardown(() => nft.close());
  nft.run('table inet a {\n set s { type ipv4_addr\n }\n}\n');
  const printed = script(`
    import { execFileSync } from 'node:child_process';
    import { openNetns } from '$linux/netns.ts';
    import { watchNft } from '$linux/nft-monitor.ts';
    import { addressSet, openElements } from '$linux/nft-elements.ts';
    const netns = openNetns('${path}');
    const told = [];
    watchNft(netns, (change) => told.push(change ? change.table : 'lost'));
    const elements = openElements(netns);
    const ips = Array.from({ length: 8000 }, (_, i) => '10.0.' + (i >> 8) + '.' + (i & 255));
    const set = addressSet({ family: 'inet', table: 'a', name: 's' });
    for (let i = 0; i < 6; i++) { elements.add(set, ips); elements.remove(set, ips); }
    const until = async (seen) => { for (let i = 0; i < 500 && !told.includes(seen); i++) await new Promise((resolve) => setTimeout(resolve, 10)); };
    await until('lost');
    netns.run(() => execFileSync('nft', ['add table inet after']));
    await until('after');
    console.log(told.join(' '));
  `);
  t.equal(printed, 'lost after\n');
  t.match(run('nft', 'list tables'), /after/);
});
