/** A process that can be stopped and continued: as libuv does, what its timers missed runs first, then what lies in its sockets. */
import type { Clock, TimerHandle } from '../base/clock.ts';
import type { Stream, Transport } from './transport.ts';

export interface Pausable {
  readonly clock: Clock;
  readonly transport: Transport;
  pause(): void;
  resume(): void;
}

export function pausable(clock: Clock, transport: Transport): Pausable {
  let paused = false;
  const missedTimers: (() => void)[] = [];
  const missedTraffic: (() => void)[] = [];
  const cancelled = new Set<TimerHandle>();

  const later = (missed: (() => void)[], run: () => void): void => {
    if (paused) missed.push(run);
    else run();
  };

  const pausedStream = (stream: Stream): Stream => ({
    write: (data) => stream.write(data),
    onData: (handler) => stream.onData((data) => later(missedTraffic, () => handler(data))),
    onEnd: (handler) => stream.onEnd((error) => later(missedTraffic, () => handler(error))),
    close: () => stream.close(),
  });

  return {
    clock: {
      now: () => clock.now(),
      wallNow: () => clock.wallNow(),
      setTimeout: (callback, delayMs) => {
        const timer: TimerHandle = clock.setTimeout(() => later(missedTimers, () => {
          if (!cancelled.delete(timer)) callback();
        }), delayMs);
        return timer;
      },
      clearTimeout: (timer) => {
        clock.clearTimeout(timer);
        if (paused || missedTimers.length > 0) cancelled.add(timer);
      },
    },
    transport: {
      address: transport.address,
      send: (packet, to) => transport.send(packet, to),
      dial: async (to, timeoutMs) => pausedStream(await transport.dial(to, timeoutMs)),
      onPacket: (handler) => transport.onPacket((packet, from) => later(missedTraffic, () => handler(packet, from))),
      onStream: (handler) => transport.onStream((stream, from) => later(missedTraffic, () => handler(pausedStream(stream), from))),
      close: () => transport.close(),
    },
    pause: () => (paused = true),
    resume: () => {
      paused = false;
      for (const missed of [missedTimers, missedTraffic]) for (let run = missed.shift(); run; run = missed.shift()) run();
      cancelled.clear();
    },
  };
}
