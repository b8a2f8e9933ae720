import { test } from 'tap';
import { silentLogger as log } from '../base/log.ts';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createCodec } from './etcd-codec.ts';
import type { Gateway } from './etcd-gateway.ts';
import { followPrefix } from './etcd-watch.ts';
import type { WatchEvent } from './store.ts';

const codec = createCodec('/p/');

function scene() {
  const clock = new VirtualClock();
  const events: WatchEvent[] = [];
  const streams: { start: number; open: boolean; say(message: object): void; end(): void }[] = [];
  const state = { revision: 5, reads: 0, unreachable: false };
  const ask = async (): Promise<number> => {
    state.reads++;
    if (state.unreachable) throw new Error('unreachable');
    return state.revision;
  };
  const gateway: Gateway = {
    healthy: true, useEndpoints: () => {},
    call: () => Promise.reject(new Error('not used')),
    close: () => {},
    stream: (_path, body, { onMessage, onEnd }) => {
      const { create_request: { start_revision } } = body as { create_request: { start_revision: string } };
      const stream = { start: Number(start_revision), open: true, say: (result: object) => onMessage({ result }), end: () => onEnd('it ended') };
      streams.push(stream);
      return () => { stream.open = false; };
    },
  };
  const stop = followPrefix({
    gateway, codec, prefix: '', clock, log, onEvent: (event) => events.push(event),
    revision: ask, list: async () => ({ entries: [], revision: await ask() }),
  });
  return { clock, events, streams, state, stop };
}

const put = (revision: number): object => ({
  header: { revision: String(revision) }, events: [{ kv: { key: codec.key('k'), value: '', mod_revision: String(revision) } }],
});

void test('silence is believed while the store stands still', async (t) => {
  const { clock, streams, state, stop } = scene();
  await clock.advance(0);
  streams[0]!.say({ created: true, header: { revision: '5' } });
  await clock.advance(60_000);
  t.equal(streams.length, 1);
  t.ok(state.reads > 3, 'but it was checked');
  stop();
  t.equal(streams[0]!.open, false);
});

void test('silence while the store moves on: the stream is opened again where it stopped', async (t) => {
  const { clock, events, streams, state, stop } = scene();
  await clock.advance(0);
  streams[0]!.say({ created: true, header: { revision: '5' } });
  streams[0]!.say(put(6));
  state.revision = 9;
  await clock.advance(12_000);
  t.equal(streams[0]!.open, false);
  t.equal(streams[1]!.start, 7);
  streams[1]!.say({ created: true, header: { revision: '9' } });
  streams[1]!.say(put(8));
  t.same(events.map((event) => (event.type === 'put' ? event.entry.revision : event.type)), ['snapshot', 6, 8]);
  await clock.advance(60_000);
  t.equal(streams.length, 2, 'the new stream knows of revision 9');
  stop();
});

void test('silence while the store does not answer: another stream, with growing pauses', async (t) => {
  const { clock, streams, state, stop } = scene();
  await clock.advance(0);
  state.unreachable = true;
  await clock.advance(11_000);
  t.equal(streams.length, 2);
  for (let i = 1; i < 50; i++) {
    streams.at(-1)!.end();
    await clock.advance(200);
  }
  t.ok(streams.length < 15, `${streams.length} attempts in 10 s`);
  stop();
  const { length } = streams;
  await clock.advance(60_000);
  t.equal(streams.length, length, 'stopped is stopped');
});
