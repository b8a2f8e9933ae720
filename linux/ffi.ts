/**
 * The system calls Node has no door to, through koffi. Raw: callers get the return value and read errno themselves
 * through `check`. Buffers whose address is handed to the kernel must be kept referenced until the call returns;
 * every call here is synchronous unless its name says otherwise, so that holds by construction.
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { KernelError } from './types.ts';

const libc = koffi.load('libc.so.6');

export const sys = {
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  bind: libc.func('int bind(int fd, const void *address, uint length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  close: libc.func('int close(int fd)'),
  dup3: libc.func('int dup3(int from, int to, int flags)'),
  getsockname: libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint *length)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int option, const void *value, uint length)'),
  getsockopt: libc.func('int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint *length)'),
  sendto: libc.func('intptr_t sendto(int fd, const void *data, size_t length, int flags, const void *address, uint addressLength)'),
  recvfrom: libc.func('intptr_t recvfrom(int fd, void *data, size_t length, int flags, void *address, void *addressLength)'),
  ioctl: libc.func('int ioctl(int fd, ulong request, _Inout_ uint8_t *argument)'),
  recv: libc.func('intptr_t recv(int fd, _Out_ uint8_t *data, size_t length, int flags)'),
  strerror: libc.func('const char *strerror(int number)'),
  setns: libc.func('int setns(int fd, int type)'),
  unshare: libc.func('int unshare(int flags)'),
  mount: libc.func('int mount(const char *source, const char *target, const char *type, ulong flags, const void *data)'),
  umount2: libc.func('int umount2(const char *target, int flags)'),
  _exit: libc.func('void _exit(int status)'),
  /** bpf(2), which libc has no name for. */
  syscall: libc.func('long syscall(long number, int command, void *attributes, uint size)'),
} as const;

/** EWOULDBLOCK is another name of EAGAIN, and would hide it. */
const errnoNames = new Map(Object.entries(constants.errno).filter(([name]) => name !== 'EWOULDBLOCK').map(([name, number]) => [number, name]));

/** 'ENOENT' for 2. */
export const errnoName = (number: number): string => errnoNames.get(number) ?? `errno ${number}`;

/** Throws the errno of the call that just returned a negative value; passes everything else through. */
export function check(what: string, result: number): number {
  if (result < 0) throw new KernelError(what, errnoName(koffi.errno()));
  return result;
}

export const lastErrno = (): string => errnoName(koffi.errno());
