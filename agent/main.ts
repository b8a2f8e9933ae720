#!/usr/bin/env node
/** weftd: reads its configuration, starts the agent, stops it on SIGTERM within a second. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { systemClock } from '../base/clock.ts';
import { errorText, weftError, type WeftError } from '../base/errors.ts';
import { type Logger, terminalLogger } from '../base/log.ts';
import { exit, exitOnUncaught } from '../linux/exit.ts';
import { duplicates, inheritedSockets } from '../linux/inherited-sockets.ts';
import { openLocalStore } from '../store/local.ts';
import { startAgent, type Agent } from './agent.ts';
import type { AgentApi } from './api.ts';
import { DEFAULT_CONFIG_PATH, loadConfig } from './config.ts';
import { serveControl } from './control.ts';
import { serveDeparting } from './departing.ts';
import { fencedBy, markFenced, nodeId, unmarkFenced } from './identity.ts';
import { openNodeStore, tlsFiles, type NodeStore } from './node-store.ts';
import { findOriginal } from './original.ts';
import { purgeHost } from './purge.ts';

const STOP_DEADLINE_MS = 1_000;
/** Node's own 64 KiB stay as long as one small buffer out of them is kept, and much of what is known of the cluster is small and is kept. */
Buffer.poolSize = 8 * 1024;

const { values } = parseArgs({ options: { config: { type: 'string', default: DEFAULT_CONFIG_PATH }, purge: { type: 'boolean', default: false } } });

exitOnUncaught();

/** While the agent is not up, everything is answered with the reason why it is not. */
function whenReady(agent: () => Agent | undefined, reason: () => WeftError): AgentApi {
  return new Proxy({} as AgentApi, {
    get: (_, call: keyof AgentApi) => async (...args: never[]) => {
      const running = agent();
      if (!running) throw reason();
      return (running.api[call] as (...all: never[]) => unknown)(...args);
    },
  });
}

async function main(): Promise<void> {
  const config = loadConfig(values.config);
  const log: Logger = pino({ level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime });
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  mkdirSync(config.runDir, { recursive: true, mode: 0o700 });
  if (values.purge) {
    // Timers of ours do not keep a process alive, and it must not end half way.
    setInterval(() => {}, 60_000);
    const errors = await purgeHost(config, values.config, terminalLogger);
    for (const error of errors) console.error(errorText(error));
    exit(errors.length > 0 ? 1 : 0);
  }
  const pidPath = join(config.runDir, 'weftd.pid');
  const local = openLocalStore(join(config.dataDir, 'local.db'));
  const inherited = inheritedSockets();
  let nodeStore: NodeStore | undefined;
  let starting: Promise<Agent> | undefined;
  let agent: Agent | undefined;
  /** For when the agent has let go of its own. */
  const reserve = duplicates(inherited);
  let departing: { close(): Promise<void> } | undefined;
  let fenced: WeftError | undefined;

  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'weftd stops; traffic goes on');
    setTimeout(() => exit(0), STOP_DEADLINE_MS).unref();
    void (async () => {
      await control.close();
      await departing?.close();
      await agent?.stop();
      await nodeStore?.close();
      local.close();
      rmSync(pidPath, { force: true });
      exit(0);
    })();
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));

  /** It takes part no more, and says why to everybody who asks; it does not end, or it would be started again. */
  async function fence(error: WeftError): Promise<void> {
    if (fenced || stopping) return;
    fenced = error;
    log.error({ code: error.code, detail: errorText(error) }, 'this node takes part no more; traffic goes on');
    if (error.code === 'WEFT-NODE-REMOVED' || error.code === 'WEFT-NODE-CLONED') markFenced(local, error.code);
    agent = undefined;
    await starting?.then((started) => started.stop(), () => {});
    await nodeStore?.etcd?.stop();
    await nodeStore?.close();
    departing = await serveDeparting({ config, reason: error, inherited: reserve, clock: systemClock, log });
  }

  writeFileSync(pidPath, String(process.pid));
  const socket = join(config.runDir, 'weft.sock');
  const fd = inherited.get(socket);
  const waiting = (): WeftError => weftError('WEFT-STORE-UNREACHABLE', { store: nodeStore?.store.description ?? 'this host', detail: 'weftd waits for it: a node\'s first start needs it' });
  const control = await serveControl(fd === undefined ? { path: socket } : { fd }, whenReady(() => agent, () => fenced ?? waiting()), log);
  if (fencedBy(local) === 'WEFT-NODE-REMOVED') return fence(weftError('WEFT-NODE-REMOVED', {}));
  // Before anything of this node's runs here: its copy of the store would be a second one under the same name.
  const original = await findOriginal(local, nodeId(local), config);
  if (original !== undefined) return fence(weftError('WEFT-NODE-CLONED', { node: config.name ?? hostname(), address: original }));
  if (fencedBy(local) !== undefined) unmarkFenced(local);
  nodeStore = openNodeStore({ config, local, tls: tlsFiles(config), clock: systemClock, log });
  starting = startAgent({ config, nodeStore, local, log, inherited, fence: (error) => void fence(error) });
  const started = await starting.catch((error: unknown) => {
    if (!fenced) throw error;
    return undefined;
  });
  if (!fenced) agent = started;
}

main().catch((error: unknown) => {
  console.error(errorText(error));
  exit(1);
});
