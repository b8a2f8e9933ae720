import { readFileSync } from 'node:fs';
import type { Netns } from './types.ts';

const TCP_LISTEN = '0A';

/** Ports that are bound on an IPv4 address in a namespace: UDP, and TCP where somebody listens (proc(5), /proc/net/udp and tcp). */
export function boundPorts(netns: Netns, ip: string): { udp: number[]; tcp: number[] } {
  // The files show addresses as the hexadecimal of a host-order word.
  const wanted = ip.split('.').reverse().map((part) => Number(part).toString(16).padStart(2, '0').toUpperCase()).join('');
  const ports = (file: string, state?: string): number[] =>
    netns.run(() => readFileSync(`/proc/thread-self/net/${file}`, 'latin1')).split('\n').slice(1).flatMap((line) => {
      const [, local, , lineState] = line.trim().split(/\s+/);
      const [address, port] = local?.split(':') ?? [];
      return address === wanted && (state === undefined || lineState === state) ? [Number.parseInt(port!, 16)] : [];
    }).sort((a, b) => a - b);
  return { udp: ports('udp'), tcp: ports('tcp', TCP_LISTEN) };
}
