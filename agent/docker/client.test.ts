import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { silentLogger } from '../../base/log.ts';
import { createDockerClient, dockerStatus, type DockerClient } from './client.ts';

interface Asked { method: string; url: string; body: string }
type Answer = (asked: Asked, response: http.ServerResponse) => void;

/** A daemon that answers as it is told; `/_ping` offers `api`. */
async function daemon(t: Test, answer: Answer, api = '1.51'): Promise<{ docker: DockerClient; asked: Asked[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const asked: Asked[] = [];
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString())).on('end', () => {
      const one = { method: request.method!, url: request.url!, body };
      asked.push(one);
      if (one.url === '/_ping') response.writeHead(200, { 'api-version': api }).end('OK');
      else answer(one, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(join(directory, 'd.sock'), resolve));
  const docker = createDockerClient({ socketPath: join(directory, 'd.sock'), log: silentLogger });
  t.teardown(() => {
    docker.close();
    server.closeAllConnections();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { docker, asked };
}

const reply = (value: unknown): Answer => (_, response) => void response.end(JSON.stringify(value));

test('the API version is asked for once, and is the newest that both know', async (t) => {
  for (const [offered, spoken] of [['1.41', '1.41'], ['1.45', '1.45'], ['1.56', '1.51'], ['2.0', '1.51']] as const) {
    const { docker, asked } = await daemon(t, reply([]), offered);
    await docker.networks();
    await docker.networks();
    t.same(asked.map(({ url }) => url), ['/_ping', `/v${spoken}/networks`, `/v${spoken}/networks`]);
  }
});

test('an engine that is too old is refused', async (t) => {
  for (const offered of ['1.40', '1.9', '']) {
    const { docker } = await daemon(t, reply([]), offered);
    await t.rejects(docker.networks(), { code: 'WEFT-DOCKER', message: /older than 1\.41/ }, offered);
  }
});

test('what each call asks for', async (t) => {
  const { docker, asked } = await daemon(t, ({ url, method }, response) => {
    if (method === 'DELETE' || url.endsWith('/start')) response.writeHead(204).end();
    else response.writeHead(method === 'POST' ? 201 : 200).end('{"Id":"n1"}');
  });
  t.equal(await docker.createNetwork({ Name: 'web' }), 'n1');
  await docker.networks({ driver: ['weft-overlay'] });
  await docker.network('n1');
  await docker.removeNetwork('n/1');
  await docker.containers({ all: true });
  await docker.containers({ all: true, name: 'web.1' });
  await docker.container('c1');
  await docker.startContainer('c1');
  await docker.info();
  t.same(asked.slice(1).map(({ method, url, body }) => `${method} ${decodeURIComponent(url)} ${body}`.trim()), [
    'POST /v1.51/networks/create {"Name":"web"}',
    'GET /v1.51/networks?filters={"driver":["weft-overlay"]}',
    'GET /v1.51/networks/n1',
    'DELETE /v1.51/networks/n/1',
    'GET /v1.51/containers/json?all=1',
    String.raw`GET /v1.51/containers/json?all=1&filters={"name":["^/?web\\.1$"]}`,
    'GET /v1.51/containers/c1/json',
    'POST /v1.51/containers/c1/start',
    'GET /v1.51/info',
  ]);
  t.equal(asked[4]!.url, '/v1.51/networks/n%2F1');
});

test('a container that runs already is no error', async (t) => {
  const { docker } = await daemon(t, (_, response) => void response.writeHead(304).end());
  t.equal(await docker.startContainer('c1'), undefined);
});

test('Docker\'s errors keep message and status', async (t) => {
  const { docker } = await daemon(t, (_, response) => void response.writeHead(404).end('{"message":"network n1 not found"}'));
  const error: unknown = await docker.network('n1').catch((thrown: unknown) => thrown);
  t.match(error, { code: 'WEFT-DOCKER', status: 404, message: /^WEFT-DOCKER: Docker refused to describe network n1: network n1 not found;/ });
  t.equal(dockerStatus(error), 404);
  t.equal(dockerStatus(new Error('x')), undefined);
});

test('answers that are none', async (t) => {
  const { docker } = await daemon(t, ({ url }, response) => {
    if (url.endsWith('/networks')) response.end('{');
    else if (url.includes('/containers/json')) response.writeHead(502).end('<html>');
    else response.destroy();
  });
  await t.rejects(docker.networks(), { code: 'WEFT-DOCKER', message: /not JSON/ });
  await t.rejects(docker.containers({ all: false }), { code: 'WEFT-DOCKER', status: 502, message: /<html>/ });
  await t.rejects(docker.info(), { code: 'WEFT-DOCKER', message: /socket hang up/ });
});

test('no daemon', async (t) => {
  const docker = createDockerClient({ socketPath: '/nonexistent/docker.sock', log: silentLogger });
  const error: unknown = await docker.networks().catch((thrown: unknown) => thrown);
  t.match(error, { code: 'WEFT-DOCKER', message: /ENOENT/ });
  t.equal(dockerStatus(error), undefined);
});

test('a call ends when its time is up or its signal says so', async (t) => {
  const { docker, asked } = await daemon(t, () => {});
  await t.rejects(docker.container('c1', { timeoutMs: 5 }), { code: 'WEFT-DOCKER', message: /no answer in time/ });
  const stop = new AbortController();
  const call = docker.container('c2', { signal: stop.signal });
  while (!asked.some(({ url }) => url.includes('c2'))) await new Promise((resolve) => setImmediate(resolve));
  stop.abort();
  await t.rejects(call, { code: 'WEFT-DOCKER', message: /aborted/ });
});
