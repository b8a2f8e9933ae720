/** Where what is said about a name comes from. */
export const ORIGINS = ['records', 'containers', 'cache', 'docker', 'upstreams'] as const;
/**
 * records: the operator's; containers: their names on the sandbox's networks; docker: its resolver in the sandbox; upstreams: the host's name
 * servers.
 */
export type Origin = typeof ORIGINS[number];
