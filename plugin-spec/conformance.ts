/**
 * The conformance kit: drives a plugin at its socket as dockerd does on a bad day, and says what did not hold. It uses
 * nothing but the socket, so it can be pointed at any plugin; it removes what it made.
 */
import net from 'node:net';
import { errorText } from '../base/errors.ts';
import { readAnswer, type Outcome } from './answers.ts';
import { checkIpamDriver } from './conformance-ipam.ts';
import { expect, type Kit } from './conformance-kit.ts';
import { checkNetworkDriver } from './conformance-network.ts';
import { createPluginClient } from './plugin-client.ts';

export interface CheckResult { check: string; ok: boolean; detail: string }

export interface ConformanceOptions {
  socketPath: string;
  /** The n-th subnet, a /24, that the kit may use; by default 10.211.n.0/24. It uses 0 to 9. */
  subnet?(n: number): string;
  /** Where the sandboxes that the kit names would be; there never is anything at those paths. */
  sandboxDirectory?: string;
  /** The longest a call may take. */
  timeoutMs?: number;
}

/** All checks that fit what the plugin implements, in order. Never throws. */
export async function runConformance(options: ConformanceOptions): Promise<CheckResult[]> {
  const { socketPath, timeoutMs = 15_000, sandboxDirectory = '/var/run/docker/netns' } = options;
  const results: CheckResult[] = [];
  const client = createPluginClient(socketPath, { timeoutMs });
  const outcome = async (call: string, body: unknown): Promise<Outcome> =>
    readAnswer(call, await client.post(call, body === undefined ? '' : `${JSON.stringify(body)}\n`));
  const kit: Kit = {
    socketPath,
    sandboxDirectory,
    subnet: options.subnet ?? ((n) => `10.211.${n}.0/24`),
    client,
    check: async (check, run) => {
      try {
        await run();
        results.push({ check, ok: true, detail: '' });
      } catch (error) {
        results.push({ check, ok: false, detail: errorText(error) });
      }
    },
    ok: async (call, body) => {
      const { value, error } = await outcome(call, body).catch((reason: unknown) => { throw new Error(`${call}: ${errorText(reason)}`); });
      if (value === undefined) throw new Error(`${call} was refused: ${error}`);
      return value;
    },
    refused: async (call, body) => {
      const { error } = await outcome(call, body).catch((reason: unknown) => { throw new Error(`${call}: ${errorText(reason)}`); });
      if (error === undefined) throw new Error(`${call} should have been refused: ${JSON.stringify(body)?.slice(0, 200) ?? 'no body'}`);
      return error;
    },
  };
  try {
    let implemented: string[] = [];
    await kit.check('activation names what is implemented', async () => {
      implemented = (await kit.ok('Plugin.Activate'))['Implements'] as string[];
    });
    await checkTransport(kit);
    if (implemented.includes('NetworkDriver')) await checkNetworkDriver(kit);
    if (implemented.includes('IpamDriver')) await checkIpamDriver(kit);
  } finally {
    client.close();
  }
  return results;
}

async function checkTransport({ client, check, socketPath }: Kit): Promise<void> {
  await check('connections are kept open', async () => {
    const { headers } = await client.post('Plugin.Activate');
    expect(headers.connection !== 'close', 'the connection is closed after each call');
    const seconds = /timeout=(\d+)/.exec(String(headers['keep-alive'] ?? ''))?.[1];
    expect(seconds === undefined || Number(seconds) >= 3600, `idle connections are closed after ${seconds} s; a call on its way then loses its body`);
  });
  await check('answers have the content type of the plugin API', async () => {
    const { headers } = await client.post('Plugin.Activate');
    expect(headers['content-type'] === 'application/vnd.docker.plugins.v1.1+json', `content type ${headers['content-type']}`);
  });
  await check('an unknown call is a 404 with an error', async () => {
    for (const call of ['NetworkDriver.NoSuchCall', 'IpamDriver.NoSuchCall', 'NoSuchCall']) {
      const { status, text } = await client.post(call, '{}');
      expect(status === 404 && typeof (JSON.parse(text) as { Err?: unknown }).Err === 'string', `${call}: ${status} ${text.slice(0, 100)}`);
    }
  });
  await check('a connection that breaks in the middle of a request harms nobody', async () => {
    await new Promise<void>((resolve, reject) => {
      const socket = net.connect(socketPath, () => {
        socket.write('POST /NetworkDriver.Join HTTP/1.1\r\nHost: \r\nContent-Length: 500\r\n\r\n{"NetworkID":', () => socket.destroy());
      });
      socket.on('close', () => resolve()).on('error', reject);
    });
    expect((await client.post('Plugin.Activate')).status === 200, 'the next call fails');
  });
}
