/** Keys of WireGuard: Curve25519's (RFC 7748), raw, in base 64. */
import { generateKeyPairSync } from 'node:crypto';

export interface KeyPair { publicKey: string; privateKey: string }

export function generateKeyPair(): KeyPair {
  const { x, d } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  const base64 = (text: string | undefined): string => Buffer.from(text!, 'base64url').toString('base64');
  return { publicKey: base64(x), privateKey: base64(d) };
}
