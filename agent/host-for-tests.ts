/** Hosts on loopback with the node's store: own folder, ports and certificate. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { COPY_MARK } from '../store/copy.ts';
import { freePorts } from '../store/etcd-for-tests.ts';
import { openLocalStore } from '../store/local.ts';
import { sceneForTests } from '../store/member-for-tests.ts';
import type { Store } from '../store/store.ts';
import { type Config, parseConfig } from './config.ts';
import { type NodeStore, type NodeStoreOptions, openNodeStore } from './node-store.ts';

export interface HostForTests { config: Config; options: Omit<NodeStoreOptions, 'local'>; open(): NodeStore; close(): Promise<void> }

export async function hostsForTests(t: Test): Promise<{ host(): Promise<HostForTests> }> {
  const { folder, authority } = sceneForTests(t);
  return {
    host: async (): Promise<HostForTests> => {
      const dataDir = mkdtempSync(join(folder, 'h'));
      const [storePort, storePeerPort] = await freePorts(2);
      const config = parseConfig(JSON.stringify({ advertise: '127.0.0.1', dataDir, storePort, storePeerPort }), 'test');
      const options = { config, tls: authority.issue(), clock, log, binary: join(folder, 'etcd.sh') };
      let opened: { local: ReturnType<typeof openLocalStore>; node: NodeStore } | undefined;
      const close = async (): Promise<void> => {
        await opened?.node.close();
        opened?.local.close();
        opened = undefined;
      };
      t.teardown(async () => {
        await opened?.node.stopMember();
        await close();
      });
      return {
        config, options, close,
        open: () => {
          const local = openLocalStore(join(dataDir, 'local.db'));
          try {
            opened = { local, node: openNodeStore({ ...options, local }) };
            return opened.node;
          } catch (error) {
            local.close();
            throw error;
          }
        },
      };
    },
  };
}

/** Without the mark of a copy, which goes a moment later. */
export const contents = async (store: Store): Promise<Record<string, string>> =>
  Object.fromEntries((await store.range('')).entries.filter(({ key }) => key !== COPY_MARK).map(({ key, value }) => [key, value]));
