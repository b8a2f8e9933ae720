/**
 * Docker's events for as long as the agent lives, over its restarts. Events of the time without a connection are lost,
 * so onUp is called after each connect: list everything anew then. The stream begins before onUp, so nothing falls in
 * between.
 */
import type { Readable } from 'node:stream';
import * as v from 'valibot';
import type { Clock, TimerHandle } from '../../base/clock.ts';
import { errorText } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { DockerClient } from './client.ts';

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5_000;
const MAX_LINE = 256 * 1024;

/** Filtered at the source: the exec events of health checks would outnumber all others. 'health_status' stands for 'health_status: healthy' and so on. */
const FILTERS = {
  type: ['container', 'network'],
  event: ['create', 'start', 'die', 'destroy', 'rename', 'connect', 'disconnect', 'remove', 'prune', 'health_status'],
};

const Event = v.object({
  Type: v.string(),
  Action: v.string(),
  Actor: v.object({ ID: v.string(), Attributes: v.nullish(v.record(v.string(), v.string()), {}) }),
});

/** For containers Actor.ID is the container's id; for networks the network's, with the container's in Attributes.container. */
export type DockerEvent = v.InferOutput<typeof Event>;

export interface WatchDockerOptions {
  onEvent(event: DockerEvent): void;
  /** Connected, for the first time or again. */
  onUp(): void;
  /** The connection is gone; called once for each onUp. */
  onDown(): void;
  log: Logger;
  clock: Clock;
}

/** Connects, and again whenever the connection ends, after 250 ms to 5 s. */
export function watchDocker(client: Pick<DockerClient, 'ping' | 'events'>, { onEvent, onUp, onDown, log, clock }: WatchDockerOptions): { close(): void } {
  const stop = new AbortController();
  const { signal } = stop;

  function take(line: string): void {
    try {
      onEvent(v.parse(Event, JSON.parse(line)));
    } catch (error) {
      log.warn({ detail: errorText(error) }, 'an event of Docker\'s could not be handled');
    }
  }

  /** Until the connection ends; says whether there was one. */
  async function follow(): Promise<boolean> {
    let up = false;
    try {
      await client.ping({ signal });
      const stream = await client.events(FILTERS, signal);
      up = true;
      onUp();
      for await (const line of lines(stream)) take(line);
    } catch (error) {
      if (!signal.aborted) log.debug({ detail: errorText(error) }, 'no connection to Docker');
    }
    if (up) onDown();
    return up;
  }

  let delay = FIRST_DELAY_MS;
  let timer: TimerHandle;

  async function run(): Promise<void> {
    if (await follow()) delay = FIRST_DELAY_MS;
    if (signal.aborted) return;
    timer = clock.setTimeout(() => void run(), delay);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }

  void run();
  return {
    close: () => {
      stop.abort();
      clock.clearTimeout(timer);
    },
  };
}

/** Lines of a stream; throws when one is longer than 256 KiB. */
export async function* lines(stream: Readable): AsyncGenerator<string> {
  let rest = '';
  stream.setEncoding('utf8');
  for await (const chunk of stream as AsyncIterable<string>) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop()!;
    for (const line of parts) if (line.trim() !== '') yield line;
    if (rest.length > MAX_LINE) throw new Error(`a line of more than ${MAX_LINE} characters`);
  }
}
