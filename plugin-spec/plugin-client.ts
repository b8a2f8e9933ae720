/** Calls a plugin as dockerd does: no Content-Type, a body or none. For the conformance kit, the tests and the recorder. */
import http from 'node:http';

const MAX_ANSWER = 1024 * 1024;

export interface PluginAnswer { status: number; headers: http.IncomingHttpHeaders; text: string }

export interface PluginClient {
  /** `body` is sent as it is; undefined sends none. Rejects when the connection breaks or the time is up. */
  post(call: string, body?: string): Promise<PluginAnswer>;
  close(): void;
}

/** What engine 20.10 sends; later ones name a host. */
const HEADERS = { Host: '', 'User-Agent': 'Go-http-client/1.1', Accept: 'application/vnd.docker.plugins.v1.2+json' };

export function createPluginClient(socketPath: string, { timeoutMs = 30_000, headers = HEADERS as Record<string, string> } = {}): PluginClient {
  const agent = new http.Agent({ keepAlive: true });
  return {
    post: (call, body = '') => new Promise((resolve, reject) => {
      const request = http.request({
        socketPath, path: `/${call}`, method: 'POST', agent, setHost: false,
        headers: { ...headers, 'Content-Length': Buffer.byteLength(body) }, signal: AbortSignal.timeout(timeoutMs),
      }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          if (text.length + chunk.length > MAX_ANSWER) response.destroy(new Error(`the answer is longer than ${MAX_ANSWER} bytes`));
          else text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
        response.on('error', reject);
      });
      request.on('error', reject);
      request.end(body);
    }),
    close: () => agent.destroy(),
  };
}
