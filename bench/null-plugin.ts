/**
 * The floor for a network plugin: hands over veth pairs that were made before, and does nothing else.
 *   null-plugin.ts SOCKET PAIRS
 */
import { rmSync } from 'node:fs';
import http from 'node:http';
import { hostNetns } from '../linux/netns.ts';
import { openRtnl } from '../linux/rtnl.ts';

const [socket = '', pairs = '0'] = process.argv.slice(2);
const rtnl = openRtnl(hostNetns);
const ready: string[] = [];
for (let i = 0; i < Number(pairs); i++) {
  rtnl.addLink({ kind: 'veth', name: `nul${i}`, peer: { name: `nup${i}`, up: true } });
  ready.push(`nul${i}`);
}

const answers: Record<string, () => object> = {
  '/Plugin.Activate': () => ({ Implements: ['NetworkDriver'] }),
  '/NetworkDriver.GetCapabilities': () => ({ Scope: 'local', ConnectivityScope: 'local' }),
  '/NetworkDriver.CreateEndpoint': () => ({ Interface: {} }),
  '/NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
  '/NetworkDriver.Join': () => ({ InterfaceName: { SrcName: ready.pop(), DstPrefix: 'eth' }, DisableGatewayService: true }),
};

rmSync(socket, { force: true });
http.createServer({ requireHostHeader: false, keepAliveTimeout: 3_600_000 }, (request, response) => {
  request.resume().on('end', () => {
    response.setHeader('content-type', 'application/vnd.docker.plugins.v1.1+json');
    response.end(JSON.stringify(answers[request.url ?? '']?.() ?? {}));
  });
}).listen(socket);
