/** Name servers for the outside world that a network has of its own, as its options name them: written as in weftd's configuration. */
import { isAbsolute } from 'node:path';
import { weftError } from '../base/errors.ts';
import type { Network } from '../cnm/model.ts';
import type { TlsUpstreams } from '../dns/dns.ts';
import { parseTlsServer, TLS_SERVER_HINT } from '../dns/tls-server.ts';
import { CA_OPTION, UPSTREAMS_OPTION } from '../drivers/options.ts';

/** undefined where it has none. Throws WEFT-OPTION-VALUE. */
export function upstreamsOf({ options }: Pick<Network, 'options'>): TlsUpstreams | undefined {
  const { [UPSTREAMS_OPTION]: value, [CA_OPTION]: ca } = options;
  if (ca !== undefined && !isAbsolute(ca)) throw weftError('WEFT-OPTION-VALUE', { option: CA_OPTION, value: ca, hint: 'give an absolute path' });
  if (ca !== undefined && value === undefined) throw weftError('WEFT-OPTION-VALUE', { option: CA_OPTION, value: ca, hint: `give ${UPSTREAMS_OPTION}, too: it is for these name servers alone` });
  if (value === undefined) return undefined;
  const servers = value.split(',').map((text) => {
    const server = parseTlsServer(text);
    if (!server) throw weftError('WEFT-OPTION-VALUE', { option: UPSTREAMS_OPTION, value, hint: `${TLS_SERVER_HINT}, several with commas` });
    return server;
  });
  return { servers, ...(ca !== undefined && { ca }) };
}
