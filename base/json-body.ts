import { errorText, weftError } from './errors.ts';

/**
 * What somebody sends as JSON, such as the body of an HTTP request; undefined where it is empty. Throws WEFT-INPUT-MALFORMED for more than `maxBytes`, WEFT-INPUT-JSON.
 */
export async function readJson(stream: AsyncIterable<Buffer>, maxBytes: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > maxBytes) throw weftError('WEFT-INPUT-MALFORMED', { what: 'the request', detail: `more than ${maxBytes} bytes` });
    chunks.push(chunk);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw weftError('WEFT-INPUT-JSON', { detail: errorText(error) });
  }
}
