/** Supervised etcd members on loopback with mutual TLS, ended when the test ends. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { type AuthorityForTests, authorityForTests } from './certificates-for-tests.ts';
import { type EtcdStore, openEtcdStore } from './etcd.ts';
import { freePorts } from './etcd-for-tests.ts';
import { findEtcd } from './etcd-process.ts';
import type { TlsFiles } from './etcd-tls.ts';
import { type Birth, prepareMember, superviseEtcd, type SupervisedEtcd, type SupervisedOptions } from './supervised-etcd.ts';

export interface MemberForTests {
  options: SupervisedOptions;
  tls: Required<TlsFiles>;
  /** Prepares it where `birth` is given, and supervises it. */
  start(birth?: Birth): SupervisedEtcd;
  pid(): number;
  signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void;
}

export interface SceneForTests {
  folder: string;
  authority: AuthorityForTests;
  member(name: string, folder?: string): Promise<MemberForTests>;
  /** A client with a certificate of its own. */
  store(members: readonly MemberForTests[]): EtcdStore;
}

export function sceneForTests(t: Test): SceneForTests {
  // A socket's path has at most 107 bytes (unix(7)).
  const folder = mkdtempSync('/tmp/weft-members-');
  const authority = authorityForTests(folder);
  // It must not outlive a test that was killed.
  const binary = join(folder, 'etcd.sh');
  writeFileSync(binary, '#!/bin/sh\nexec setpriv --pdeathsig KILL etcd "$@"\n', { mode: 0o700 });
  // The clock's timers keep no process alive, and a child that is on its own does not either.
  const awake = setInterval(() => {}, 1000);
  const ends: (() => Promise<unknown> | void)[] = [() => clearInterval(awake)];
  t.teardown(async () => {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  });

  return {
    folder,
    authority,
    member: async (name, at = join(folder, name)) => {
      const [client, peer] = await freePorts(2);
      const tls = authority.issue();
      const options = { folder: at, name, clientUrl: `https://127.0.0.1:${client}`, peerUrl: `https://127.0.0.1:${peer}`, tls, clock, log, binary };
      const pid = (): number => {
        const found = findEtcd(at);
        if (!found) throw new Error(`${name} does not run`);
        return found.pid;
      };
      return {
        options, tls, pid,
        start: (birth) => {
          if (birth) prepareMember(at, birth);
          const supervised = superviseEtcd(options);
          ends.push(() => supervised.stop());
          return supervised;
        },
        signal: (signal) => void process.kill(pid(), signal),
      };
    },
    store: (members) => {
      const store = openEtcdStore({ endpoints: members.map(({ options }) => options.clientUrl), tls: authority.issue(), clock, log });
      ends.push(() => store.close());
      return store;
    },
  };
}

export async function until(what: string, condition: () => Promise<boolean> | boolean, timeoutMs = 20_000): Promise<void> {
  for (const end = clock.now() + timeoutMs; clock.now() < end; await new Promise((resolve) => { setTimeout(resolve, 50); })) {
    if (await condition()) return;
  }
  throw new Error(`not within ${timeoutMs} ms: ${what}`);
}

export const succeeds = (action: () => Promise<unknown>): Promise<boolean> => action().then(() => true, () => false);
