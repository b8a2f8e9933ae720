import { test } from 'tap';
import { VirtualClock } from '../base/virtual-clock.ts';
import { createAnswerCache } from './answer-cache.ts';
import type { Forwarder } from './forwarder.ts';
import { createOutside } from './outside.ts';
import { parseQuery, type Query } from './query.ts';
import { A, question, react } from './testing.ts';

test('who names the same name servers shares them and their answers, until the last one lets go', async (t) => {
  const [asked, opened, closed]: [string[], string[], string[]] = [[], [], []];
  const forwarder = (who: string): Forwarder => ({
    ask: async (message) => {
      asked.push(who);
      return react(message, (name) => [A(name, '1.1.1.1')])!;
    },
    close: () => void closed.push(who),
  });
  const cache = createAnswerCache(1 << 20);
  const outside = createOutside({
    usual: { forwarder: forwarder('node'), encrypted: false }, cache, clock: new VirtualClock(),
    open: ({ servers: [server], ca = '' }) => {
      opened.push(server!.address + ca);
      return forwarder(server!.address + ca);
    },
  });
  const named = (ca?: string) => ({ servers: [{ address: '9.9.9.9', port: 853 }], ...(ca !== undefined && { ca }) });
  const [one, two, other, usual] = [outside.take(named()), outside.take(named()), outside.take(named('/ca.pem')), outside.take(undefined)];
  t.same(opened, ['9.9.9.9', '9.9.9.9/ca.pem'], 'with other authorities they are others');
  t.same([one, other, usual].map(({ upstreams }) => upstreams.encrypted), [true, true, false]);
  const message = question('www.example');
  for (const { upstreams } of [one, two, other, usual]) t.match(await upstreams.cached.find(message, parseQuery(message) as Query), { answer: {} });
  t.same(asked, ['9.9.9.9', '9.9.9.9/ca.pem', 'node']);
  t.equal(cache.size, 3);
  one.release();
  t.ok(two.upstreams.cached.kept(message, parseQuery(message) as Query));
  t.same(closed, []);
  two.release();
  usual.release();
  t.same([closed, cache.size], [['9.9.9.9'], 2], 'the node\'s own stay');
  outside.take(named());
  t.equal(opened.length, 3, 'and are there again when they are wanted');
  outside.close();
  t.same(closed, ['9.9.9.9', 'node', '9.9.9.9/ca.pem', '9.9.9.9']);
});
