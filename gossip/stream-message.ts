/** Reads one message from a stream: sealed in a frame where there is a key, else bare and without a length. */
import { Refused } from './counters.ts';
import type { Keyring } from './keyring.ts';
import { decompress } from './lzw.ts';
import {
  MAX_USER_BYTES, TYPE, decodeAck, decodeCompressed, decodeError, decodePing, decodeUserStream, readPushPull, type Ping, type PushPull, type PushPullProgress,
} from './messages.ts';
import { Incomplete } from './msgpack.ts';

const FRAME_HEADER = 5;
/** A user message or a state of the largest size, and the members beside it. */
const MAX_BYTES = MAX_USER_BYTES + (4 << 20);
/** States of members shrink to a tenth at most. What claims to shrink more, and is not small, is made to cost time. */
const MAX_RATIO = 20;
const ALWAYS_UNPACKED = 64 << 10;
/** How often compression may be wrapped in itself. */
const MAX_NESTING = 2;

export type StreamMessage =
  | ({ type: 'pushPull' } & PushPull)
  | { type: 'user'; payload: Buffer }
  | { type: 'ping'; ping: Ping }
  | { type: 'ack'; seq: number };

/** One side has a key and the other has none: worth saying to the other side, which would look for the fault elsewhere. */
export class SealMismatch extends Refused {
  constructor(message: string) {
    super('seal', message);
  }
}

export interface StreamReaderOptions {
  keyring: Keyring | undefined;
  /** What seals are bound to, beside the frame's header. */
  label: Buffer;
  /** What the stream has to begin with; empty: it must not begin with a label; undefined: who answers says none. */
  labelHeader: Buffer | undefined;
  /** false: what is not sealed is taken as well. */
  verifyIncoming: boolean;
}

/** All that came can be read, but not in one turn of the loop: the reader is to be called in the next one, with nothing or with what came. */
export const LATER = Symbol('later');

/** So many members are read in about 100 µs. */
const MEMBERS_PER_TURN = 25;
/** Unpacking more than that is work enough for a turn. */
const UNPACKED_PER_TURN = 4 << 10;

/**
 * Takes a stream piece by piece; returns the message once all of it is there. Throws Refused and RangeError for what is
 * not acceptable, and an Error with the words of a peer that answered with an error.
 */
export type StreamReader = (piece: Uint8Array) => StreamMessage | typeof LATER | undefined;

export function createStreamReader(options: StreamReaderOptions): StreamReader {
  const { labelHeader } = options;
  let held = Buffer.alloc(0);
  let size = 0;
  /** Unsealed or unpacked, so that all of it is there. */
  let whole: Buffer | undefined;
  let nesting = 0;
  const progress: PushPullProgress = { nodes: [], at: 0 };

  function decode(message: Buffer): StreamMessage | typeof LATER {
    if (message.length === 0) throw new Incomplete();
    const body = message.subarray(1);
    switch (message[0]) {
      case TYPE.pushPull: {
        const pushPull = readPushPull(body, progress, MEMBERS_PER_TURN);
        return pushPull ? { type: 'pushPull', ...pushPull } : LATER;
      }
      case TYPE.user: return { type: 'user', payload: decodeUserStream(body) };
      case TYPE.ping: return { type: 'ping', ping: decodePing(body) };
      case TYPE.ack: return { type: 'ack', seq: decodeAck(body).seq };
      case TYPE.error: throw new Error(`the other side says: ${decodeError(body)}`);
      case TYPE.compress: {
        if (nesting === MAX_NESTING) throw new RangeError('nested too deeply');
        const packed = decodeCompressed(body);
        nesting++;
        whole = decompress(packed, Math.min(MAX_BYTES, Math.max(ALWAYS_UNPACKED, packed.length * MAX_RATIO)));
        return whole.length > UNPACKED_PER_TURN ? LATER : decode(whole);
      }
      default: throw new Refused('type', `a stream of type ${message[0]}`);
    }
  }

  function open(): Buffer {
    const data = held.subarray(0, size);
    const { message, sealed } = unseal(labelHeader ? withoutLabel(data, labelHeader) : data, options);
    if (sealed) whole = message;
    return message;
  }

  return (piece) => {
    if (size + piece.length > MAX_BYTES) throw new RangeError('the stream is too long');
    if (size + piece.length > held.length) {
      const larger = Buffer.alloc(Math.max(held.length * 2, size + piece.length));
      held.copy(larger, 0, 0, size);
      held = larger;
    }
    held.set(piece, size);
    size += piece.length;
    try {
      return decode(whole ?? open());
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error;
      // What was wrapped is all there: more will not complete it.
      if (whole) throw new RangeError('the message ends early');
      return undefined;
    }
  };
}

function withoutLabel(data: Buffer, header: Buffer): Buffer {
  const length = Math.min(data.length, header.length);
  if (!data.subarray(0, length).equals(header.subarray(0, length))) throw new Refused('label', 'the label is another one');
  if (header.length === 0 && data[0] === TYPE.label) throw new Refused('label', 'it has a label, and this node has none');
  return data.subarray(length);
}

/** `0a | length u32 | sealed`; the header is part of what the seal is bound to. */
function unseal(data: Buffer, { keyring, label, verifyIncoming }: StreamReaderOptions): { message: Buffer; sealed: boolean } {
  if (data.length === 0) throw new Incomplete();
  if (!keyring) {
    if (data[0] === TYPE.encrypt) throw new SealMismatch('the message is encrypted, and this node has no key');
    return { message: data, sealed: false };
  }
  // An error comes in the clear from a peer that has no key.
  if (data[0] === TYPE.error) return { message: data, sealed: false };
  if (data[0] !== TYPE.encrypt) {
    if (!verifyIncoming) return { message: data, sealed: false };
    throw new SealMismatch('the message is not encrypted, and this node has a key');
  }
  if (data.length < FRAME_HEADER) throw new Incomplete();
  const length = data.readUInt32BE(1);
  if (length > MAX_BYTES) throw new RangeError('a frame of that size is refused');
  if (data.length < FRAME_HEADER + length) throw new Incomplete();
  const opened = keyring.open(data.subarray(FRAME_HEADER, FRAME_HEADER + length), Buffer.concat([data.subarray(0, FRAME_HEADER), label]));
  if (!opened) throw new Refused('seal', 'no key opens the message');
  return { message: opened, sealed: true };
}
