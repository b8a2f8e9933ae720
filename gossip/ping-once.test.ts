import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'tap';
import { systemClock as clock } from '../base/clock.ts';
import { silentLogger as log } from '../base/log.ts';
import { systemRandom as random } from '../base/random.ts';
import { createGossip } from './gossip.ts';
import { Keyring } from './keyring.ts';
import { openTransport } from './net-transport.ts';
import { pingOnce } from './ping-once.ts';

test('who answers at a port is a member, or nobody', async (t) => {
  const keyring = new Keyring(Buffer.alloc(32, 1));
  const transport = await openTransport({ bind: { host: '127.0.0.1', port: 0 } });
  const member = createGossip({ name: 'a', transport, clock, random, log, keyring });
  t.teardown(() => member.shutdown());
  const options = { keyring, random, clock, timeoutMs: 5_000 };
  t.equal(await pingOnce(transport.address, options), true);
  t.equal(await pingOnce(transport.address, { ...options, keyring: new Keyring(Buffer.alloc(32, 2)), timeoutMs: 400 }), false, 'not with another cluster\'s key');

  const echo = createSocket('udp4').bind(0, '127.0.0.1');
  await once(echo, 'listening');
  t.teardown(() => echo.close());
  echo.on('message', (packet, from) => {
    echo.send(packet, from.port, from.address);
    echo.send('nonsense', from.port, from.address);
  });
  t.equal(await pingOnce({ host: '127.0.0.1', port: echo.address().port }, { ...options, timeoutMs: 400 }), false, 'who sends it back is no member');
  const free = createSocket('udp4').bind(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address();
  free.close();
  t.equal(await pingOnce({ host: '127.0.0.1', port }, { ...options, timeoutMs: 400 }), false, 'nobody is there');
});
