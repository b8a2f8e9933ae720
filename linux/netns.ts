/**
 * Network namespaces from the main thread. Node runs all JavaScript on one thread, so a synchronous setns in and out
 * (3 µs) is safe as long as nothing awaits in between and no other thread is born inside: libuv's pool threads keep
 * the namespace of the moment they start, so the pool is started here, before the first setns.
 */
import { closeSync, mkdirSync, openSync, rmSync, stat, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { check, sys } from './ffi.ts';
import { KernelError, type Netns } from './types.ts';

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MNT_DETACH = 2;
const NSFS_MAGIC = 0x6e736673;

const hostFd = openSync('/proc/thread-self/ns/net', 'r');
/** Where the main thread is: a function run inside may enter another namespace, and comes back to this one. */
let current = hostFd;

// libuv starts all threads of its pool, synchronously, with the first piece of work that is queued.
stat('/', () => {});

function enter<T>(fd: number, inside: () => T): T {
  const outer = current;
  check('enter a network namespace', sys.setns(fd, CLONE_NEWNET));
  current = fd;
  try {
    const result = inside();
    if (result !== null && typeof result === 'object' && 'then' in result) throw new TypeError('a function run inside a namespace must be synchronous');
    return result;
  } finally {
    returnTo(outer);
  }
}

/** Going on in the wrong namespace would reconfigure a container as if it were the host. */
function returnTo(fd: number): void {
  if (sys.setns(fd, CLONE_NEWNET) < 0) process.abort();
  current = fd;
}

const make = (path: string | undefined, fd: number): Netns => {
  let open = true;
  return {
    path, fd,
    run: (inside) => {
      // The number may be another file's by now.
      if (!open) throw new KernelError('enter a network namespace', 'EBADF', 'it was closed');
      return enter(fd, inside);
    },
    close: () => {
      if (open && fd !== hostFd) closeSync(fd);
      open = false;
    },
  };
};

/** The namespace this process was started in. */
export const hostNetns: Netns = make(undefined, hostFd);

/** Whether a network namespace is mounted at the path (an empty file left behind by a crash is not one). */
export function isNetns(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}

/** Opens the namespace mounted at a path, or that of a process ('/proc/PID/ns/net'). Throws KernelError ENOENT. */
export function openNetns(path: string): Netns {
  if (!isNetns(path)) throw new KernelError(`open the network namespace ${path}`, 'ENOENT');
  return make(path, openSync(path, 'r'));
}

/** Creates a namespace and mounts it at the path. Throws EEXIST where one is mounted already. */
export function createNetns(path: string): Netns {
  mkdirSync(dirname(path), { recursive: true });
  if (isNetns(path)) throw new KernelError(`create the network namespace ${path}`, 'EEXIST');
  rmSync(path, { force: true });
  closeSync(openSync(path, 'wx', 0o444));
  try {
    check('create a network namespace', sys.unshare(CLONE_NEWNET));
    try {
      check('mount a network namespace', sys.mount('/proc/thread-self/ns/net', path, 'none', MS_BIND, null));
    } finally {
      returnTo(current);
    }
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
  return openNetns(path);
}

/** Unmounts and removes a namespace's file; the namespace itself goes when its last user does. Idempotent. */
export function deleteNetns(path: string): void {
  if (isNetns(path)) check('unmount a network namespace', sys.umount2(path, MNT_DETACH));
  rmSync(path, { force: true });
}
