/** Weft on a host of the lab: the bundle that ships, its sockets held as systemd holds them. */
import { join, resolve } from 'node:path';
import { call } from '../../cli/client.ts';
import { WEFTD_ENVIRONMENT, WEFTD_FLAGS } from '../../cli/footprint.ts';
import type { Host, Service } from './host.ts';
import { until } from './run.ts';

/** What ships. */
export const BUNDLE = resolve(import.meta.dirname, '../../dist');
const PLUGINS = '/run/docker/plugins';
const CONTROL = '/run/weft/weft.sock';
const SOCKETS = [...['weft', 'weft-overlay', 'weft-bridge', 'weft-macvlan', 'weft-ipvlan'].map((name) => `${PLUGINS}/${name}.sock`), CONTROL];

const environmentOf = (variables: Record<string, string>): string[] => ['env', ...Object.entries(variables).map((pair) => pair.join('='))];
const WEFTD = [...environmentOf(WEFTD_ENVIRONMENT), process.execPath, ...WEFTD_FLAGS];

/** `bundle`: the directory that weftd is started from; the built one by default. */
export interface UpOptions { store?: string; advertise?: string; nodePrefix?: string; bundle?: string }

export const weft = (host: Host, ...args: string[]) => weftWith(host, {}, ...args);

/** `environment`: what it gets besides; `input`: what it reads. */
export const weftWith = (host: Host, { environment = {}, input }: { environment?: Record<string, string>; input?: string }, ...args: string[]) =>
  host.exec([...environmentOf(environment), process.execPath, join(BUNDLE, 'weft.cjs'), ...args], input === undefined ? {} : { input });

/** The answer of `weft … --json`; rejects with what it said. */
export async function weftJson<T>(host: Host, ...args: string[]): Promise<T> {
  return JSON.parse(await host.must([process.execPath, join(BUNDLE, 'weft.cjs'), '--json', ...args])) as T;
}

/** `weft up`, with the service started as the host's service manager would. Resolves when it answers. */
export async function weftUp(host: Host, { store, advertise, nodePrefix, bundle }: UpOptions = {}): Promise<Service> {
  await host.must([
    process.execPath, join(BUNDLE, 'weft.cjs'), 'up', '--no-start', '--name', host.name, ...(store === undefined ? [] : ['--store', store]), ...(advertise === undefined ? [] : ['--advertise', advertise]),
    ...(nodePrefix === undefined ? [] : ['--node-prefix', nodePrefix]),
  ]);
  const service = await startWeftd(host, {}, bundle);
  await ready(host);
  return service;
}

/** What `weft` asks weftd, without a process for each call. Rejects as cli/client.ts does. */
export const control = <T>(host: Host, method: string, path: string, body?: object): Promise<T> => call<T>(`/proc/${host.pid}/root${CONTROL}`, method, path, body);

/** `environment`: what it gets besides. */
export const startWeftd = (host: Host, environment: Record<string, string> = {}, bundle = BUNDLE): Promise<Service> =>
  host.startService([...environmentOf(environment), ...WEFTD, join(bundle, 'weftd.cjs')], SOCKETS);

/** With sockets of its own making: one process. */
export const spawnWeftd = (host: Host) => host.spawn([...WEFTD, join(BUNDLE, 'weftd.cjs')], join(host.directory, 'weftd.log'));

export const ready = (host: Host): Promise<unknown> => until(`weftd of ${host.name} answers`, async () => (await weft(host, 'status')).code === 0, 20_000);
