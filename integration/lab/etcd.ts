/** One etcd of Debian's, on a host of the lab. */
import { join } from 'node:path';
import type { TlsFiles } from '../../store/etcd-tls.ts';
import type { Host } from './host.ts';
import { until } from './run.ts';

export interface Etcd { readonly url: string; stop(): Promise<void>; start(): Promise<void> }

/** With `tls` it answers only who shows a certificate of that authority. */
export async function startEtcd(host: Host, { tls }: { tls?: Required<TlsFiles> } = {}): Promise<Etcd> {
  const scheme = tls ? 'https' : 'http';
  const url = `${scheme}://${host.address}:2379`;
  const start = async (): Promise<void> => {
    host.spawn([
      'etcd', '--data-dir', join(host.directory, 'etcd'), '--listen-client-urls', `${scheme}://0.0.0.0:2379`, '--advertise-client-urls', url,
      '--listen-peer-urls', 'http://127.0.0.1:2380', '--initial-advertise-peer-urls', 'http://127.0.0.1:2380', '--initial-cluster', 'default=http://127.0.0.1:2380',
      ...(tls ? ['--client-cert-auth', '--trusted-ca-file', tls.ca, '--cert-file', tls.cert, '--key-file', tls.key] : []),
    ], join(host.directory, 'etcd.log'));
    const shown = tls ? ['--cacert', tls.ca, '--cert', tls.cert, '--key', tls.key] : [];
    await until('etcd answers', async () => (await host.exec(['curl', '-sf', '-m', '1', ...shown, `${url}/health`])).code === 0, 60_000);
  };
  await start();
  return {
    url, start,
    stop: async () => {
      await host.exec(['pkill', '-KILL', '-x', 'etcd']);
    },
  };
}
