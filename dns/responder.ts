/** What a server hands its queries to, and what all who answer have in common: what of a message can be answered at all. */
import type { Transport } from './forwarder.ts';
import type { Outcome } from './outcomes.ts';
import { parseQuery, refusalOf, type Query } from './query.ts';
import type { KnownAnswers } from './remembered.ts';
import { encodeRejection, encodeResponse } from './response.ts';

/** Over TCP: what its length field can say (RFC 1035 §4.2.2). */
export const MAX_TCP_SIZE = 65_535;

/**
 * Answers one query. Own answers are written into `out` at once, and their length is returned (0: no answer is due);
 * what must be forwarded comes as a promise, which never rejects. `out` holds as much as the transport carries.
 */
export type Responder = (message: Buffer, transport: Transport, out: Buffer) => number | Promise<Buffer>;

export type Chain = Responder & {
  /** Over UDP: what was asked before. To be asked for in each turn of the event loop; what is not there is the chain's to answer. */
  known(): KnownAnswers;
};

/** `limit`: the length of answer that the client takes. */
type Answering = (query: Query, limit: number, message: Buffer, transport: Transport, out: Buffer) => number | Promise<Buffer>;

/** Hands on what can be answered, and tells everybody else why not. */
export const createResponder = (count: (outcome: Outcome) => void, answer: Answering): Responder => (message, transport, out) => {
  const query = parseQuery(message);
  if (query === 'silence') {
    count('ignored');
    return 0;
  }
  if ('rcode' in query) {
    count('rejected');
    return encodeRejection(out, message, query.rcode);
  }
  const limit = Math.min(out.length, transport === 'udp' ? query.udpSize : MAX_TCP_SIZE);
  const refusal = refusalOf(query);
  if (refusal === undefined) return answer(query, limit, message, transport, out);
  count('denied');
  return encodeResponse(out, message, query, refusal, undefined, limit);
};
