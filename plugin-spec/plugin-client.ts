/** Calls a plugin as dockerd does: an empty Host, no Content-Type, a body or none. For the kit, the tests and the recorder. */
import http from 'node:http';

const MAX_ANSWER = 1024 * 1024;

export interface PluginAnswer { status: number; headers: http.IncomingHttpHeaders; text: string }

export interface PluginClient {
  /** `body` is sent as it is; undefined sends none. Rejects when the connection breaks or the time is up. */
  post(call: string, body?: string): Promise<PluginAnswer>;
  close(): void;
}

export function createPluginClient(socketPath: string, { timeoutMs = 30_000 } = {}): PluginClient {
  const agent = new http.Agent({ keepAlive: true });
  return {
    post: (call, body = '') => new Promise((resolve, reject) => {
      const headers = { Host: '', 'User-Agent': 'Go-http-client/1.1', Accept: 'application/vnd.docker.plugins.v1.2+json', 'Content-Length': Buffer.byteLength(body) };
      const request = http.request({ socketPath, path: `/${call}`, method: 'POST', agent, setHost: false, headers, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
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
