/**
 * Keys that packets and streams are sealed with: AES-GCM, nonce of 12 bytes, tag of 16. The primary seals; all open.
 * To change keys without losing anybody: install the new one everywhere, then use it everywhere, then remove the old one.
 */
import { createCipheriv, createDecipheriv, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto';
import type { Random } from '../base/random.ts';

const NONCE = 12;
const TAG = 16;
const BLOCK = 16;

/** memberlist's encryption versions: 0 pads the text to whole blocks first (protocol 1), 1 does not. */
export type SealVersion = 0 | 1;

/** Bytes that a seal adds at most. */
export const sealOverhead = (version: SealVersion): number => 1 + NONCE + TAG + (version === 0 ? BLOCK : 0);

interface Key { readonly bytes: Uint8Array; readonly key: KeyObject; readonly algorithm: 'aes-256-gcm' }

function keyOf(bytes: Uint8Array): Key {
  if (![16, 24, 32].includes(bytes.length)) throw new RangeError('a key has 16, 24 or 32 bytes');
  return { bytes: Uint8Array.from(bytes), key: createSecretKey(bytes), algorithm: `aes-${bytes.length * 8}-gcm` as 'aes-256-gcm' };
}

const isKey = (bytes: Uint8Array) => (key: Key): boolean => key.bytes.length === bytes.length && timingSafeEqual(key.bytes, bytes);

export class Keyring {
  /** The primary first. */
  #keys: Key[] = [];

  /** Keys of 16, 24 or 32 bytes. Throws RangeError. */
  constructor(primary: Uint8Array, ...others: Uint8Array[]) {
    for (const key of [primary, ...others]) this.install(key);
  }

  /** From now on it opens. One that is there already changes nothing. Throws RangeError for a key of another length. */
  install(bytes: Uint8Array): void {
    const key = keyOf(bytes);
    if (!this.#keys.some(isKey(bytes))) this.#keys.push(key);
  }

  /** From now on it seals. Throws RangeError unless it is installed: what it seals could not be opened here. */
  use(bytes: Uint8Array): void {
    const key = this.#keys.find(isKey(bytes));
    if (!key) throw new RangeError('a key has to be installed before it is used');
    this.#keys = [key, ...this.#keys.filter((each) => each !== key)];
  }

  /** One that is not there changes nothing. Throws RangeError for the primary: another has to be used first. */
  remove(bytes: Uint8Array): void {
    if (isKey(bytes)(this.#keys[0]!)) throw new RangeError('the key in use cannot be removed');
    this.#keys = this.#keys.filter((key) => !isKey(bytes)(key));
  }

  /** The primary first. */
  get keys(): Uint8Array[] {
    return this.#keys.map(({ bytes }) => Uint8Array.from(bytes));
  }

  seal(plain: Uint8Array, associated: Uint8Array, random: Random, version: SealVersion = 1): Buffer {
    const { key, algorithm } = this.#keys[0]!;
    const nonce = random.bytes(NONCE);
    const cipher = createCipheriv(algorithm, key, nonce);
    cipher.setAAD(associated);
    const padding = version === 0 ? BLOCK - (plain.length % BLOCK) : 0;
    return Buffer.concat([Buffer.of(version), nonce, cipher.update(plain), cipher.update(Buffer.alloc(padding, padding)), cipher.final(), cipher.getAuthTag()]);
  }

  /** undefined when no key opens it. */
  open(sealed: Buffer, associated: Uint8Array): Buffer | undefined {
    const version = sealed[0];
    if (sealed.length < 1 + NONCE + TAG || (version !== 0 && version !== 1)) return undefined;
    for (const { key, algorithm } of this.#keys) {
      const decipher = createDecipheriv(algorithm, key, sealed.subarray(1, 1 + NONCE));
      decipher.setAAD(associated);
      decipher.setAuthTag(sealed.subarray(-TAG));
      const plain = decipher.update(sealed.subarray(1 + NONCE, -TAG));
      try {
        decipher.final();
      } catch {
        continue;
      }
      return version === 0 ? withoutPadding(plain) : plain;
    }
    return undefined;
  }
}

/** Authentic by now, so a wrong padding is a broken peer and not an oracle. */
function withoutPadding(plain: Buffer): Buffer | undefined {
  const padding = plain.at(-1) ?? 0;
  if (padding < 1 || padding > BLOCK || padding > plain.length || plain.length % BLOCK !== 0) return undefined;
  return plain.subarray(0, -padding);
}
