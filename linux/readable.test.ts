import { createSocket } from 'node:dgram';
import { fstatSync } from 'node:fs';
import { test, type Test } from 'tap';
import { check, sys } from './ffi.ts';
import { whenReadable } from './readable.ts';
import { script } from './testing.ts';

const LOOPBACK = Buffer.from([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
const scratch = Buffer.alloc(100);

/** A socket that nobody else reads, and how to send to it. */
function open(t: Test): { fd: number; say(text: string): void } {
  const fd = check('open', sys.socket(2, 2 | 0o4000, 0));
  check('bind', sys.bind(fd, LOOPBACK, LOOPBACK.length));
  const name = Buffer.alloc(16);
  check('port', sys.getsockname(fd, name, [16]));
  const client = createSocket('udp4');
  t.teardown(() => client.close());
  return { fd, say: (text) => client.send(text, name.readUInt16BE(2), '127.0.0.1') };
}

test('what comes is read one by one, promises go on, and the descriptor is closed in the end', async (t) => {
  const { fd, say } = open(t);
  const heard: string[] = [];
  const waiting: (() => void)[] = [];
  const stop = whenReadable(fd, () => {
    const length = Number(sys.recv(fd, scratch, scratch.length, 0));
    const text = scratch.toString('latin1', 0, length);
    void Promise.resolve().then(() => {
      heard.push(text);
      waiting.shift()?.();
    });
    return true;
  });
  const next = (): Promise<void> => new Promise((resolve) => void waiting.push(resolve));
  const both = [next(), next()];
  say('one');
  say('two');
  await Promise.all(both);
  const third = next();
  say('three');
  await third;
  t.same(heard, ['one', 'two', 'three']);
  stop();
  t.throws(() => fstatSync(fd), { code: 'EBADF' });
});

test('what is thrown while it is read ends the process, as anywhere else', async (t) => {
  t.match(script(`
    import { sys } from '$linux/ffi.ts';
    import { whenReadable } from '$linux/readable.ts';
    import { createSocket } from 'node:dgram';
    process.on('uncaughtException', (error) => {
      console.log(error.message);
      process.exit(0);
    });
    const socket = createSocket('udp4');
    const fd = sys.socket(2, 2 | 0o4000, 0);
    const address = Buffer.from([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    sys.bind(fd, address, 16);
    sys.getsockname(fd, address, [16]);
    whenReadable(fd, () => { throw new Error('thrown'); });
    socket.send('x', address.readUInt16BE(2), '127.0.0.1');
  `), /^thrown\n$/);
});
