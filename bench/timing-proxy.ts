/**
 * Stands between dockerd and its plugins, and writes down how long each call takes: one line of JSON each.
 *   timing-proxy.ts LOG FOLDER PLUGIN…     a socket FOLDER/PLUGIN.sock for each in Docker's folder
 */
import { createWriteStream, rmSync } from 'node:fs';
import http from 'node:http';

/** `address`: what was given, or what the endpoint has. */
export interface TimedCall { path: string; ms: number; endpoint?: string; address?: string }
interface Body { EndpointID?: string; Address?: string; Interface?: { Address?: string } | null }

const DOCKER_PLUGINS = '/run/docker/plugins';

async function read(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function fieldsOf(data: Buffer): Body {
  try {
    return JSON.parse(data.toString()) as Body;
  } catch {
    return {};
  }
}

if (import.meta.main) {
  const [log = '', folder = '', ...plugins] = process.argv.slice(2);
  const out = createWriteStream(log, { flags: 'a' });
  const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });
  for (const plugin of plugins) {
    const path = `${DOCKER_PLUGINS}/${plugin}.sock`;
    rmSync(path, { force: true });
    http.createServer({ requireHostHeader: false }, (request, response) => {
      void (async () => {
        const asked = await read(request);
        const start = performance.now();
        const forwarded = http.request({ agent, socketPath: `${folder}/${plugin}.sock`, method: request.method, path: request.url, headers: request.headers });
        forwarded.end(asked);
        const answer = await new Promise<http.IncomingMessage>((resolve, reject) => forwarded.on('response', resolve).on('error', reject));
        const data = await read(answer);
        const ms = performance.now() - start;
        response.writeHead(answer.statusCode ?? 500, answer.headers).end(data);
        const [question, result] = [fieldsOf(asked), fieldsOf(data)];
        out.write(`${JSON.stringify({ path: request.url, ms, endpoint: question.EndpointID, address: question.Interface?.Address ?? result.Address } satisfies Partial<Record<keyof TimedCall, unknown>>)}\n`);
      })().catch(() => response.destroy());
    }).listen(path);
  }
}
