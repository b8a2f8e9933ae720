/** How a node asks another one to try its ports: one HTTPS request at the gossip port, with the certificates of both. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import * as v from 'valibot';
import type { Credentials } from '../cluster/identity/join-server.ts';
import { Firewall } from './reachability-firewall.ts';
import { REACHABILITY_PATH } from './reachability-ports.ts';

const MAX_ANSWER = 64 * 1024;

const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));

export const ReachabilityRequest = v.strictObject({
  /** Of the asking node, which its certificate has to bear out. */
  address: v.pipe(v.string(), v.ipv4()),
  /** What to try there; absent: nothing, the question is for the firewall. */
  ports: v.optional(v.strictObject({
    gossip: Port,
    /** Of the store's ports; nobody need listen there yet. */
    store: v.pipe(v.array(Port), v.maxLength(2)),
    /** The tunnel is tried by frames with this word. */
    nonce: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  })),
});
export type ReachabilityRequest = v.InferOutput<typeof ReachabilityRequest>;

export const ReachabilityAnswer = v.object({
  /** Of the node that answers. */
  firewalls: v.pipe(v.array(Firewall), v.maxLength(16)),
  /** Of the asking node's ports, which ones were reached. */
  tried: v.optional(v.object({
    gossipTcp: v.boolean(), gossipUdp: v.boolean(), store: v.array(v.object({ port: Port, open: v.boolean() })),
    /** Whether the asking node's frames came; absent where this node does not know it as a member yet. */
    tunnel: v.optional(v.boolean()),
    /** The same by WireGuard; absent, too, where one of the two nodes does not use it. */
    encryption: v.optional(v.boolean()),
  })),
});
export type ReachabilityAnswer = v.InferOutput<typeof ReachabilityAnswer>;

/** Rejects where nobody answers in time, or somebody who is no member. */
export async function askNode(to: { host: string; port: number }, { authority, certificate, key }: Credentials, body: ReachabilityRequest, timeoutMs: number): Promise<ReachabilityAnswer> {
  const text = JSON.stringify(body);
  const signal = AbortSignal.timeout(timeoutMs);
  const request = https.request({
    host: to.host, port: to.port, method: 'POST', path: REACHABILITY_PATH, agent: false, ca: authority, cert: certificate, key, minVersion: 'TLSv1.3', signal,
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
  });
  request.end(text);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let answer = '';
  for await (const chunk of response as AsyncIterable<Buffer>) {
    answer += chunk.toString();
    if (answer.length > MAX_ANSWER) throw new Error('its answer is too long');
  }
  if (response.statusCode !== 200) throw new Error(`it refuses: ${answer.slice(0, 200)}`);
  return v.parse(ReachabilityAnswer, JSON.parse(answer));
}
