/** What became of a query; counted. */
export const OUTCOMES = [
  'answered', 'nodata', 'cached', 'stale', 'docker', 'upstream', 'discarded', 'contained', 'refused', 'timeout', 'unreachable', 'lied', 'failed', 'rejected', 'denied', 'ignored',
] as const;
/**
 * answered, nodata: from own records; cached, stale: from the cache, in and past their time; docker, upstream: passed on; discarded: Docker's,
 * about a Weft subnet; contained: an internal network's question about the outside; refused: too many at once; lied: the reply could not be
 * believed; failed: asking others went wrong here; rejected: no readable query; denied: another class, a whole zone; ignored: a response, less than a header.
 */
export type Outcome = typeof OUTCOMES[number];
