/** One etcd of Debian's, on a host of the lab. */
import { join } from 'node:path';
import type { Host } from './host.ts';
import { until } from './run.ts';

export interface Etcd { readonly url: string; stop(): Promise<void>; start(): Promise<void> }

export async function startEtcd(host: Host): Promise<Etcd> {
  const url = `http://${host.address}:2379`;
  const start = async (): Promise<void> => {
    host.spawn([
      'etcd', '--data-dir', join(host.directory, 'etcd'), '--listen-client-urls', `http://0.0.0.0:2379`, '--advertise-client-urls', url,
      '--listen-peer-urls', 'http://127.0.0.1:2380', '--initial-advertise-peer-urls', 'http://127.0.0.1:2380', '--initial-cluster', 'default=http://127.0.0.1:2380',
    ], join(host.directory, 'etcd.log'));
    await until('etcd answers', async () => (await host.exec(['curl', '-sf', '-m', '1', `${url}/health`])).code === 0, 20_000);
  };
  await start();
  return {
    url, start,
    stop: async () => {
      await host.exec(['pkill', '-KILL', '-x', 'etcd']);
    },
  };
}
