/**
 * Keys that packets and streams are sealed with: AES-GCM, version byte 1, nonce of 12 bytes, tag of 16 (memberlist's
 * encryption version 1). The first key seals; all of them open.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import type { Random } from '../base/random.ts';

const VERSION = 1;
const NONCE = 12;
const TAG = 16;
export const SEAL_OVERHEAD = 1 + NONCE + TAG;

export class Keyring {
  readonly #keys: { key: KeyObject; algorithm: 'aes-256-gcm' }[];

  /** Keys of 16, 24 or 32 bytes; the first is the primary. Throws RangeError. */
  constructor(primary: Uint8Array, ...others: Uint8Array[]) {
    const keys = [primary, ...others];
    for (const key of keys) if (![16, 24, 32].includes(key.length)) throw new RangeError('a key has 16, 24 or 32 bytes');
    this.#keys = keys.map((key) => ({ key: createSecretKey(key), algorithm: `aes-${key.length * 8}-gcm` as 'aes-256-gcm' }));
  }

  seal(plain: Uint8Array, associated: Uint8Array, random: Random): Buffer {
    const { key, algorithm } = this.#keys[0]!;
    const nonce = random.bytes(NONCE);
    const cipher = createCipheriv(algorithm, key, nonce);
    cipher.setAAD(associated);
    return Buffer.concat([Buffer.of(VERSION), nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** undefined when no key opens it. */
  open(sealed: Buffer, associated: Uint8Array): Buffer | undefined {
    if (sealed.length < SEAL_OVERHEAD || sealed[0] !== VERSION) return undefined;
    for (const { key, algorithm } of this.#keys) {
      const decipher = createDecipheriv(algorithm, key, sealed.subarray(1, 1 + NONCE));
      decipher.setAAD(associated);
      decipher.setAuthTag(sealed.subarray(-TAG));
      const plain = decipher.update(sealed.subarray(1 + NONCE, -TAG));
      try {
        return Buffer.concat([plain, decipher.final()]);
      } catch { /* another key may open it */ }
    }
    return undefined;
  }
}
