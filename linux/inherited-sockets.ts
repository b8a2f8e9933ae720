/**
 * Listening unix sockets inherited from the service manager (sd_listen_fds(3)): they outlive weftd, so that dockerd's
 * calls wait for the next one instead of failing. They are told apart by their paths, since all sockets of one unit
 * share one name.
 */
import { openSync } from 'node:fs';
import { check, sys } from './ffi.ts';

const O_CLOEXEC = 0o2000000;
const FIRST_FD = 3;
const SOCKADDR_UN_SIZE = 110;
const PATH_OFFSET = 2;

/** Path → file descriptor, for LISTEN_FDS meant for this process; empty when there are none. */
export function inheritedSockets(env: NodeJS.ProcessEnv = process.env, pid = process.pid): Map<string, number> {
  const count = Number(env['LISTEN_FDS'] ?? 0);
  if (!Number.isInteger(count) || count <= 0 || Number(env['LISTEN_PID']) !== pid) return new Map();
  return new Map(Array.from({ length: count }, (_, i) => [socketPath(FIRST_FD + i), FIRST_FD + i]));
}

/** A second descriptor of each: closing one of the two leaves the socket listening. Programs that are started do not get it. */
export const duplicates = (sockets: ReadonlyMap<string, number>): Map<string, number> => new Map([...sockets].map(([path, fd]) => {
  const copy = openSync('/dev/null', 'r');
  check('copy a descriptor', sys.dup3(fd, copy, O_CLOEXEC));
  return [path, copy];
}));

function socketPath(fd: number): string {
  const address = Buffer.alloc(SOCKADDR_UN_SIZE);
  const length = [address.length];
  check('read the address of an inherited socket', sys.getsockname(fd, address, length));
  const end = address.indexOf(0, PATH_OFFSET);
  return address.toString('utf8', PATH_OFFSET, end < 0 ? length[0] : end);
}
