/** A real etcd on loopback for tests: random ports, own folder, killed and removed at the end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { createTransport } from './etcd-http.ts';
import type { TlsFiles } from './etcd-tls.ts';

export interface EtcdForTests {
  endpoint: string;
  start(): Promise<void>;
  /** kill -9. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT: the sockets stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** A call of the gateway, past all certificates. Rejects with GatewayError. */
  post(path: string, body: object, token?: string): Promise<Record<string, unknown>>;
  /** Forgets the history before now. */
  compact(): Promise<void>;
  /** Kills it and removes its data; start() then gives an empty store at the same address. */
  wipe(): Promise<void>;
}

export async function freePorts(count: number): Promise<number[]> {
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

/** Whether every thread is in state T (proc(5)). */
const isStopped = (pid: number | undefined): boolean =>
  readdirSync(`/proc/${pid}/task`).every((thread) => / T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').replace(/.*\)/, '')));

/** `teardown` is told how to end it. With `tls` clients must show a certificate of the same authority. Starts it. */
export async function etcdForTests(teardown: (end: () => Promise<void>) => void, { tls }: { tls?: Required<TlsFiles> } = {}): Promise<EtcdForTests> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-etcd-'));
  const [clientPort, peerPort] = await freePorts(2);
  const endpoint = `${tls ? 'https' : 'http'}://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const transport = createTransport({ clock, log });
  let child: ChildProcess | undefined;

  const post: EtcdForTests['post'] = (path, body, token) => transport.ask({ endpoint: `unix://${folder}/client:0`, path, body, token }, 1000);

  async function start(): Promise<void> {
    // etcd does not take over a socket that a killed one left.
    rmSync(join(folder, 'client:0'), { force: true });
    // It must not outlive a test that was killed.
    child = spawn('setpriv', ['--pdeathsig', 'KILL', 'etcd',
      '--name', 'test', '--data-dir', join(folder, 'data'), '--unsafe-no-fsync', '--log-level', 'error', '--logger', 'zap',
      '--listen-client-urls', `${endpoint},unix://client:0`, '--advertise-client-urls', endpoint,
      '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`,
      // Short, so that leases may be: their least time to live is one and a half elections.
      '--heartbeat-interval', '20', '--election-timeout', '200', '--bcrypt-cost', '4',
      ...(tls ? ['--client-cert-auth', '--trusted-ca-file', tls.ca, '--cert-file', tls.cert, '--key-file', tls.key] : []),
    ], { stdio: 'ignore', cwd: folder });
    for (let tries = 0; tries < 200; tries++) {
      if (child.exitCode !== null) throw new Error(`etcd exited with ${child.exitCode}`);
      // What it answers without a token once users are switched on.
      const isUp = await post('/v3/kv/range', { key: 'AA==' }).then(() => true, (error: unknown) => /user name is empty/.test(String(error)));
      if (isUp) return;
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
    transport.close();
    await kill();
    rmSync(folder, { recursive: true, force: true });
  });
  await start();
  return {
    endpoint, start, kill, post,
    freeze: () => {
      child?.kill('SIGSTOP');
      while (!isStopped(child?.pid)) { /* threads stop one by one, and another core may still run one */ }
    },
    thaw: () => void child?.kill('SIGCONT'),
    compact: async () => {
      const { header } = await post('/v3/kv/range', { key: 'AA==' }) as { header: { revision: string } };
      await post('/v3/kv/compaction', { revision: header.revision });
    },
    wipe: async () => {
      await kill();
      rmSync(join(folder, 'data'), { recursive: true, force: true });
    },
  };
}
