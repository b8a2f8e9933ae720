/**
 * Listening sockets inherited from the service manager (sd_listen_fds(3)): they outlive weftd, so that dockerd's calls
 * wait for the next one instead of failing.
 */
const FIRST_FD = 3;

/** Name → file descriptor, for LISTEN_FDS meant for this process; empty when there are none. */
export function inheritedSockets(env: NodeJS.ProcessEnv = process.env, pid = process.pid): Map<string, number> {
  const count = Number(env['LISTEN_FDS'] ?? 0);
  if (!Number.isInteger(count) || count <= 0 || Number(env['LISTEN_PID']) !== pid) return new Map();
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':');
  return new Map(Array.from({ length: count }, (_, i) => [names[i] || `fd${i}`, FIRST_FD + i]));
}
