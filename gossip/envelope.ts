/**
 * What a node's messages are wrapped in on the wire, for packets and for streams: compressed, sealed, labelled, in this
 * order. Configuration decides what has to be there, never the bytes: a sealed packet begins like a ping.
 */
import type { Random } from '../base/random.ts';
import { Refused } from './counters.ts';
import { sealOverhead, type Keyring, type SealVersion } from './keyring.ts';
import { compress } from './lzw.ts';
import { TYPE, encodeCompressed } from './messages.ts';
import { createStreamReader, type StreamReader } from './stream-message.ts';

export interface EnvelopeOptions {
  /** Absent: everything travels in the clear, and whoever reaches the port is believed. */
  keyring?: Keyring | undefined;
  /**
   * Up to 255 bytes that every message begins with, and that seals are bound to: keeps clusters apart that share
   * addresses or keys. What has another label, or none, is dropped without an answer. Default: none.
   */
  label?: string;
  /** false: what is not sealed is taken too, while keys are being introduced to a running cluster. Default: true. */
  verifyIncoming?: boolean;
  /** false: this node has keys and does not seal yet. Default: true. */
  verifyOutgoing?: boolean;
  /**
   * Whether whatever gets smaller is sent compressed; in packets that costs more than it saves. Exchanges of states up to
   * 16 KiB always are, and what comes compressed is always read. Default: false.
   */
  compression?: boolean;
  /** 0 for clusters that speak protocol 1. Default: 1. */
  sealVersion?: SealVersion;
}

export interface Envelope {
  /** Bytes that a packet takes at most besides its messages. */
  readonly overhead: number;
  wrapPacket(packet: Buffer): Buffer;
  /** Throws Refused. */
  openPacket(packet: Buffer): Buffer;
  /** Only who dials says the label. */
  wrapStream(message: Buffer, dialled: boolean): Buffer;
  createReader(dialled: boolean): StreamReader;
}

const MAX_LABEL = 255;
const LABEL_HEADER = 2;
const FRAME_HEADER = 5;
/** Shorter ones hardly get smaller. */
const MIN_COMPRESSED = 300;
/** An exchange of states shrinks to a third, in less than half a millisecond at this size. */
const MAX_COMPRESSED_STATE = 16 << 10;
/** Longer ones would hold up the event loop for more than a millisecond. */
const MAX_COMPRESSED = 64 << 10;

/** Throws RangeError for a label that is too long. */
export function createEnvelope(options: EnvelopeOptions, random: Random): Envelope {
  const { keyring, verifyIncoming = true, verifyOutgoing = true, compression = false, sealVersion = 1 } = options;
  const label = Buffer.from(options.label ?? '');
  if (label.length > MAX_LABEL) throw new RangeError(`a label has up to ${MAX_LABEL} bytes`);
  const labelHeader = label.length > 0 ? Buffer.concat([Buffer.of(TYPE.label, label.length), label]) : Buffer.alloc(0);
  const sealing = keyring && verifyOutgoing ? keyring : undefined;

  function compressed(message: Buffer): Buffer {
    const isState = message[0] === TYPE.pushPull && message.length <= MAX_COMPRESSED_STATE;
    if (!(compression || isState) || message.length < MIN_COMPRESSED || message.length > MAX_COMPRESSED) return message;
    const smaller = encodeCompressed(compress(message));
    return smaller.length < message.length ? smaller : message;
  }

  const labelled = (data: Buffer): Buffer => (label.length > 0 ? Buffer.concat([labelHeader, data]) : data);

  function withoutLabel(packet: Buffer): Buffer {
    if (label.length > 0) {
      if (!packet.subarray(0, labelHeader.length).equals(labelHeader)) throw new Refused('label', 'the label is another one');
      return packet.subarray(labelHeader.length);
    }
    if (packet[0] === TYPE.label) throw new Refused('label', 'it has a label, and this node has none');
    return packet;
  }

  return {
    overhead: (sealing ? sealOverhead(sealVersion) : 0) + (label.length > 0 ? LABEL_HEADER + label.length : 0),
    wrapPacket: (packet) => {
      const body = compressed(packet);
      return labelled(sealing ? sealing.seal(body, label, random, sealVersion) : body);
    },
    openPacket: (packet) => {
      const body = withoutLabel(packet);
      if (!keyring) return body;
      const opened = keyring.open(body, label);
      if (opened) return opened;
      if (verifyIncoming) throw new Refused('seal', 'no key opens it');
      return body;
    },
    wrapStream: (message, dialled) => {
      const body = compressed(message);
      let data = body;
      if (sealing) {
        const header = Buffer.alloc(FRAME_HEADER);
        header[0] = TYPE.encrypt;
        const padding = sealVersion === 0 ? 16 - (body.length % 16) : 0;
        header.writeUInt32BE(body.length + sealOverhead(1) + padding, 1);
        data = Buffer.concat([header, sealing.seal(body, Buffer.concat([header, label]), random, sealVersion)]);
      }
      return dialled ? labelled(data) : data;
    },
    createReader: (dialled) => createStreamReader({ keyring, label, labelHeader: dialled ? undefined : labelHeader, verifyIncoming }),
  };
}
