/**
 * Join tokens: `weft1-<authority>-<secret>@<host>:<port>`, an IPv6 host in brackets. The first part is the SHA-256 of the cluster's authority, so
 * that a joiner knows whom it speaks to before it says the secret; both are in base 36, to be read aloud and selected with two clicks.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import { weftError } from '../../base/errors.ts';
import { hostPort } from '../../base/ip.ts';

export interface Token {
  /** SHA-256 of the authority's certificate, hex. */
  authority: string;
  secret: string;
  host: string;
  port: number;
}

const PREFIX = 'weft1';
const AUTHORITY_LENGTH = 50;
const SECRET_LENGTH = 25;
const SECRET_BYTES = 16;
const DEFAULT_PORT = 7947;

const base36 = (bytes: Uint8Array, length: number): string => BigInt(`0x${Buffer.from(bytes).toString('hex')}`).toString(36).padStart(length, '0');

/** 128 bits. */
export const newSecret = (): string => base36(randomBytes(SECRET_BYTES), SECRET_LENGTH);

export const formatToken = ({ authority, secret, host, port }: Token): string =>
  `${PREFIX}-${base36(Buffer.from(authority, 'hex'), AUTHORITY_LENGTH)}-${secret}@${hostPort(host, port)}`;

/** Throws WEFT-TOKEN-MALFORMED; what was given is not repeated, for it may be a secret. */
export function parseToken(text: string): Token {
  const refuse = (detail: string): never => {
    throw weftError('WEFT-TOKEN-MALFORMED', { detail });
  };
  const match = /^weft(\d+)-([0-9a-z]+)-([0-9a-z]+)@([0-9.]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/.exec(text.trim());
  if (!match) return refuse(`it should look like ${PREFIX}-…-…@ADDRESS:PORT`);
  const [, version, authority = '', secret = '', address = '', port = String(DEFAULT_PORT)] = match;
  if (`weft${version}` !== PREFIX) return refuse(`it is of version ${version}, and this is version 1`);
  if (authority.length !== AUTHORITY_LENGTH || secret.length !== SECRET_LENGTH) return refuse('a part of it is missing');
  const host = address.replaceAll(/[[\]]/g, '');
  if (isIP(host) === 0 || Number(port) < 1 || Number(port) > 65535) return refuse('its address is none');
  let value = 0n;
  for (const digit of authority) value = value * 36n + BigInt(Number.parseInt(digit, 36));
  if (value >= 1n << 256n) return refuse('its first part is none');
  return { authority: value.toString(16).padStart(64, '0'), secret, host, port: Number(port) };
}

/** In constant time. */
export function sameSecret(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
