/** A real etcd on loopback for tests: random ports, own folder, killed and removed at the end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface EtcdForTests {
  endpoint: string;
  start(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT: the sockets stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Forgets the history before now. */
  compact(): Promise<void>;
  /** Kills it and removes its data; start() then gives an empty store at the same address. */
  wipe(): Promise<void>;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return server;
  }));
  return Promise.all(servers.map(async (server) => {
    const { port } = server.address() as { port: number };
    server.close();
    await once(server, 'close');
    return port;
  }));
}

/** `teardown` is told how to end it. Starts it. */
export async function etcdForTests(teardown: (end: () => Promise<void>) => void): Promise<EtcdForTests> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-etcd-'));
  const [clientPort, peerPort] = await freePorts(2);
  const endpoint = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  let child: ChildProcess | undefined;

  const post = async (path: string, body: object): Promise<Record<string, { revision: string }>> => {
    const response = await fetch(`${endpoint}${path}`, { method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(1000) });
    if (!response.ok) throw new Error(await response.text());
    return response.json() as Promise<Record<string, { revision: string }>>;
  };

  async function start(): Promise<void> {
    // It must not outlive a test that was killed.
    child = spawn('setpriv', ['--pdeathsig', 'KILL', 'etcd',
      '--name', 'test', '--data-dir', join(folder, 'data'), '--unsafe-no-fsync', '--log-level', 'error', '--logger', 'zap',
      '--listen-client-urls', endpoint, '--advertise-client-urls', endpoint,
      '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`,
      // Short, so that leases may be: their least time to live is one and a half elections.
      '--heartbeat-interval', '20', '--election-timeout', '200',
    ], { stdio: 'ignore' });
    for (let tries = 0; tries < 200; tries++) {
      if (child.exitCode !== null) throw new Error(`etcd exited with ${child.exitCode}`);
      if (await post('/v3/kv/range', { key: 'AA==' }).then(() => true, () => false)) return;
      await delay(50);
    }
    throw new Error('etcd does not answer');
  }

  async function kill(): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  teardown(async () => {
    await kill();
    rmSync(folder, { recursive: true, force: true });
  });
  await start();
  return {
    endpoint, start, kill,
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    compact: async () => {
      const { header } = await post('/v3/kv/range', { key: 'AA==' });
      await post('/v3/kv/compaction', { revision: header!.revision });
    },
    wipe: async () => {
      await kill();
      rmSync(join(folder, 'data'), { recursive: true, force: true });
    },
  };
}
