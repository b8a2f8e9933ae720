/**
 * How a host joins: one HTTPS request (POST /v1/join, TLS 1.3) at the gossip port of a node. The joiner checks the
 * other side's authority against its token before it says anything; then it says the secret and asks for a certificate.
 */
import * as v from 'valibot';

export const JOIN_PATH = '/v1/join';
export const MAX_BODY = 64 * 1024;
export const JOIN_TIMEOUT_MS = 20_000;

const pem = v.pipe(v.string(), v.startsWith('-----BEGIN '), v.maxLength(16_384));
const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));

export const JoinRequest = v.strictObject({
  secret: v.pipe(v.string(), v.maxLength(64)),
  /** Certificate signing request. */
  request: pem,
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  name: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  /** That the other nodes send to. */
  address: v.pipe(v.string(), v.ip()),
});
export type JoinRequest = v.InferOutput<typeof JoinRequest>;

export const JoinAnswer = v.object({
  certificate: pem,
  authority: pem,
  /** Certificates that are refused. */
  revoked: v.pipe(v.string(), v.startsWith('-----BEGIN X509 CRL-----')),
  store: v.object({ endpoints: v.pipe(v.array(v.pipe(v.string(), v.url())), v.minLength(1), v.maxLength(16)), own: v.boolean() }),
  /** What all nodes must have the same. */
  gossipPort: Port, vxlanPort: Port, nodePrefix: v.pipe(v.string(), v.maxLength(18)), defaultPools: v.pipe(v.array(v.string()), v.maxLength(64)),
});
export type JoinAnswer = v.InferOutput<typeof JoinAnswer>;

export const JoinRefusal = v.object({ code: v.string(), message: v.string() });
