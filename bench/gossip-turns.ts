/**
 * How long one node of ours keeps its event loop from the network, in a cluster of so many whose other nodes are in a process
 * of their own: it joins, exchanges states with forty of them, is joined by forty, and then does what is to be done every
 * second. LAN profile, sealed. Turns in which the kernel took the processor away do not count. Ends with one JSON line.
 *
 *   node bench/gossip-turns.ts NODES
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import { createGossip, type Gossip } from '../gossip/gossip.ts';
import { Keyring } from '../gossip/keyring.ts';
import type { Address } from '../gossip/messages.ts';
import { openTransport } from '../gossip/net-transport.ts';
import { quantile } from './figures.ts';

const count = Number(process.argv[2] ?? 200);
const EXCHANGES = 40;
const PAUSE_MS = 50;
const STEADY_MS = 10_000;
/** A shorter turn looked, and found nothing to do. */
const IDLE_US = 20;

const addressOf = (i: number): Address => ({ host: `127.1.${Math.floor(i / 250)}.${1 + (i % 250)}`, port: 7946 });
const start = async (i: number): Promise<Gossip> => createGossip({
  name: `node-${String(i).padStart(3, '0')}`, meta: Buffer.from(`host ${i}`), transport: await openTransport({ bind: addressOf(i) }), keyring: new Keyring(Buffer.alloc(32, 7)), clock, random, log,
});

if (process.argv[3] === 'others') {
  const others: Gossip[] = [];
  for (let i = 1; i < count; i++) others.push(await start(i));
  // One after the other: a storm is measured elsewhere.
  for (const other of others.slice(1)) await other.join([addressOf(1)]);
  while (others.some((other) => other.members().length < count - 1)) await wait(100);
  process.send!('full');
  await once(process, 'message');
  for (const other of others.slice(0, EXCHANGES)) {
    await other.join([addressOf(0)]);
    await wait(PAUSE_MS);
  }
  process.send!('joined');
} else {
  const others = spawn(process.execPath, [import.meta.filename, String(count), 'others'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await once(others, 'message');
  const node = await start(0);
  const turns: number[] = [];
  const preempted = (): number => process.resourceUsage().involuntaryContextSwitches;
  let since = performance.now();
  let switches = preempted();
  const turn = (): void => {
    const took = (performance.now() - since) * 1_000;
    const now = preempted();
    if (took > IDLE_US && now === switches) turns.push(took);
    switches = now;
    since = performance.now();
    setImmediate(turn);
  };
  setImmediate(turn);
  for (let i = 1; i <= EXCHANGES; i++) {
    await node.join([addressOf(i)]);
    await wait(PAUSE_MS);
  }
  others.send('join');
  await once(others, 'message');
  await wait(STEADY_MS);
  others.kill('SIGKILL');
  console.log(JSON.stringify({ turns: turns.length, turn_p50_us: quantile(turns, 0.5), turn_p99_us: quantile(turns, 0.99), turn_max_us: Math.max(...turns) }));
  process.exit(0);
}
