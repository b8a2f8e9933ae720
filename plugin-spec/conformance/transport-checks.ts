/** How dockerd sends calls, whatever they are. */
import { expect, type Check } from './check.ts';
import { breakConnection } from './kit.ts';

const BARE = { 'User-Agent': 'Go-http-client/1.1', Accept: 'application/vnd.docker.plugins.v1.2+json' };
/** A connection that idles longer than this is closed at a moment when dockerd is unlikely to use it. */
const IDLE_SECONDS = 3600;

export const transportChecks: Check[] = [
  {
    name: 'activate',
    level: 'must',
    rule: 'Plugin.Activate answers the same each time.',
    why: 'Docker asks once in its life and again after each restart, without knowing what a plugin was told before.',
    run: async ({ ok }) => {
      const answers = [await ok('Plugin.Activate'), await ok('Plugin.Activate')].map(({ Implements }) => JSON.stringify(Implements));
      expect(answers[0] === answers[1], `${answers[0]}, then ${answers[1]}`);
    },
  },
  {
    name: 'empty-host',
    level: 'must',
    rule: 'A request whose Host header is empty is served.',
    why: 'Engines up to 24 send an empty Host; later ones send plugin.moby.localhost.',
    run: async ({ raw }) => {
      const { status } = await raw('Plugin.Activate', '', { ...BARE, Host: '' });
      expect(status === 200, `status ${status}`);
    },
  },
  {
    name: 'content-type',
    level: 'must',
    rule: 'A body is read as JSON though the request has no Content-Type.',
    why: 'Docker never sends one.',
    run: async ({ raw, newId }) => {
      const headers = { ...BARE, Host: 'plugin.moby.localhost' };
      for (const [call, body] of [['NetworkDriver.DeleteNetwork', { NetworkID: newId() }], ['IpamDriver.ReleasePool', { PoolID: newId() }]] as const) {
        const text = `${JSON.stringify(body)}\n`;
        const [without, named] = [await raw(call, text, headers), await raw(call, text, { ...headers, 'Content-Type': 'application/json' })];
        expect(without.status === named.status, `${call}: status ${named.status} with Content-Type: application/json, ${without.status} without`);
      }
    },
  },
  {
    name: 'idle-connections',
    level: 'should',
    rule: 'Idle connections stay open for as long as the plugin runs.',
    why: 'Docker keeps connections. If the plugin closes one just as a call goes out, Docker repeats that call without its body, and it fails. (Node closes after 5 s: server.keepAliveTimeout = 0.)',
    run: async ({ raw }) => {
      const { headers } = await raw('Plugin.Activate', '');
      const seconds = /timeout=(\d+)/.exec(String(headers['keep-alive'] ?? ''))?.[1];
      expect(seconds === undefined || Number(seconds) >= IDLE_SECONDS, `the plugin says that it closes them after ${seconds} s`);
    },
  },
  {
    name: 'unknown-call',
    level: 'should',
    rule: 'A call that the plugin does not know is answered with 404.',
    why: 'Each engine brings new calls; a success would promise what the plugin does not do.',
    run: async ({ raw }) => {
      for (const call of ['NetworkDriver.NoSuchCall', 'IpamDriver.NoSuchCall', 'NoSuchCall']) {
        const { status } = await raw(call, '{}\n');
        expect(status === 404, `${call}: status ${status}`);
      }
    },
  },
  {
    name: 'half-request',
    level: 'must',
    rule: 'A connection that breaks in the middle of a request harms no other.',
    why: 'It happens whenever dockerd is killed.',
    run: async ({ ok, pause, socketPath }) => {
      await breakConnection(socketPath, 'POST /NetworkDriver.Join HTTP/1.1\r\nHost: \r\nContent-Length: 500\r\n\r\n{"NetworkID":');
      await pause(50);
      await ok('Plugin.Activate');
    },
  },
];
