import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'tap';
import { systemClock, type Clock } from '../../base/clock.ts';
import { silentLogger, type Logger } from '../../base/log.ts';
import { createDockerClient } from './client.ts';
import { lines, watchDocker } from './events.ts';

const event = (action: string, id = 'c1'): string =>
  `${JSON.stringify({ status: action, id, Type: 'container', Action: action, Actor: { ID: id, Attributes: { name: 'web' } }, scope: 'local', time: 1 })}\n`;

/** A clock whose timers fire at once; `delays` are those that were asked for. */
function hastyClock(): { clock: Clock; delays: number[] } {
  const delays: number[] = [];
  return { delays, clock: { ...systemClock, setTimeout: (callback, ms) => (delays.push(ms), setImmediate(callback)), clearTimeout: (handle) => clearImmediate(handle as NodeJS.Immediate) } };
}

/** A queue of what happened, awaited one by one. */
function record<T>(): { push(value: T): void; next(): Promise<T> } {
  const stream = new PassThrough({ objectMode: true });
  const iterator = stream[Symbol.asyncIterator]();
  return { push: (value) => void stream.write(value), next: async () => (await iterator.next()).value as T };
}

test('events arrive, over a restart of the daemon', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-t-'));
  const path = join(directory, 'd.sock');
  const streams: http.ServerResponse[] = [];
  let filters = '';
  const start = async (): Promise<http.Server> => {
    const server = http.createServer((request, response) => {
      if (request.url === '/_ping') return void response.writeHead(200, { 'api-version': '1.41' }).end();
      filters = new URL(request.url!, 'http://x').searchParams.get('filters')!;
      response.writeHead(200);
      response.flushHeaders();
      streams.push(response);
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return server;
  };
  const stop = (server: http.Server): void => {
    server.close();
    server.closeAllConnections();
  };
  const docker = createDockerClient({ socketPath: path, log: silentLogger });
  const seen = record<string>();
  const { clock } = hastyClock();
  let server = await start();
  const watcher = watchDocker(docker, {
    onEvent: ({ Action, Actor }) => seen.push(`${Action} ${Actor.Attributes['name']}`), onUp: () => seen.push('up'), onDown: () => seen.push('down'), log: silentLogger, clock,
  });
  t.teardown(() => {
    watcher.close();
    docker.close();
    stop(server);
    rmSync(directory, { recursive: true, force: true });
  });
  t.equal(await seen.next(), 'up');
  t.match(JSON.parse(filters), { type: ['container', 'network'] });
  const text = event('start') + event('die');
  streams[0]!.write(text.slice(0, 20));
  streams[0]!.write(text.slice(20));
  t.equal(await seen.next(), 'start web');
  t.equal(await seen.next(), 'die web');
  stop(server);
  t.equal(await seen.next(), 'down');
  server = await start();
  t.equal(await seen.next(), 'up', 'and the caller can list everything anew');
  streams[1]!.write(event('destroy'));
  t.equal(await seen.next(), 'destroy web');
  watcher.close();
  t.equal(await seen.next(), 'down');
});

test('the waits grow to 5 s, and begin anew after a connection', async (t) => {
  const { clock, delays } = hastyClock();
  let attempts = 0;
  const done = Promise.withResolvers<void>();
  const watcher = watchDocker({
    ping: async () => ({ apiVersion: '1.41' }),
    events: async () => {
      attempts++;
      if (attempts === 9) done.resolve();
      if (attempts === 8) return Readable.from([]) as http.IncomingMessage;
      throw new Error('no daemon');
    },
  }, { onEvent: () => {}, onUp: () => {}, onDown: () => {}, log: silentLogger, clock });
  await done.promise;
  watcher.close();
  t.same(delays.slice(0, 8), [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 250]);
});

test('what is not an event is reported and passed over, and so is an observer that fails', async (t) => {
  const warned: unknown[] = [];
  const log: Logger = { ...silentLogger, warn: (fields) => void warned.push(fields) };
  const seen = record<string>();
  const stream = new PassThrough();
  const watcher = watchDocker({ ping: async () => ({ apiVersion: '1.41' }), events: async () => stream as unknown as http.IncomingMessage }, {
    onEvent: ({ Action }) => {
      if (Action === 'start') throw new Error('observer');
      seen.push(Action);
    },
    onUp: () => seen.push('up'), onDown: () => {}, log, clock: systemClock,
  });
  t.teardown(() => {
    watcher.close();
    stream.destroy();
  });
  t.equal(await seen.next(), 'up');
  stream.write(`not json\n{"Type":"container"}\n\n${event('start')}${event('die')}`);
  t.equal(await seen.next(), 'die');
  t.match(warned, [{ detail: /JSON/ }, { detail: /Action/ }, { detail: 'observer' }]);
});

test('closing before there is a connection ends the attempts', async (t) => {
  let attempts = 0;
  const { clock, delays } = hastyClock();
  const watcher = watchDocker({
    ping: async () => {
      attempts++;
      await null;
      watcher.close();
      throw new Error('no daemon');
    },
    events: async () => Promise.reject(new Error('unreachable')),
  }, { onEvent: () => {}, onUp: () => t.fail('never up'), onDown: () => t.fail('never down'), log: silentLogger, clock });
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  t.equal(attempts, 1);
  t.same(delays, []);
});

test('lines: cut anywhere, and bounded', async (t) => {
  const got: string[] = [];
  for await (const line of lines(Readable.from([Buffer.from('a'), Buffer.from('b\nc\n\nd'), Buffer.from('e\nlast')]))) got.push(line);
  t.same(got, ['ab', 'c', 'de'], 'an unfinished line at the end is no line');
  await t.rejects(async () => {
    for await (const _ of lines(Readable.from(Array.from({ length: 20 }, () => Buffer.alloc(64 * 1024, 'x'))))) t.fail('no line');
  }, /262144/);
});
