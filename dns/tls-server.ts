/** Name servers that are asked over TLS, as a configuration or a network's option names them. */
import { isIP, isIPv4 } from 'node:net';

/** RFC 7858 §3.1. */
export const DNS_OVER_TLS_PORT = 853;
const LONGEST_NAME = 253;
const NAME = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*$/i;

/** To whoever wrote one that cannot be read. */
export const TLS_SERVER_HINT = 'give name servers such as tls://9.9.9.9#dns.quad9.net';

export interface TlsServer {
  address: string;
  port: number;
  /** What its certificate must be made out to; its address where it is left out. */
  name?: string;
}

/** 'tls://9.9.9.9#dns.quad9.net', 'tls://[2620:fe::fe]:8853'; undefined for anything else. */
export function parseTlsServer(text: string): TlsServer | undefined {
  const [, ip6, ip4, port = String(DNS_OVER_TLS_PORT), name] = /^tls:\/\/(?:\[([^\]]+)\]|([\d.]+))(?::(\d{1,5}))?(?:#(.+))?$/.exec(text) ?? [];
  const address = ip6 ?? ip4 ?? '';
  if (isIP(address) === 0 || isIPv4(address) !== (ip4 !== undefined) || Number(port) < 1 || Number(port) > 65_535) return undefined;
  if (name === undefined) return { address, port: Number(port) };
  return name.length <= LONGEST_NAME && NAME.test(name) && isIP(name) === 0 ? { address, port: Number(port), name } : undefined;
}
