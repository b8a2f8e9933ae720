/**
 * Network coordinates (Vivaldi: Dabek, Cox, Kaashoek, Morris 2004, with height; adjustment and latency filter after
 * Ledlie, Gardner, Seltzer 2007): each node places itself in a space so that distances are round-trip times, from
 * the answers to the probes it sends anyway. The payload in an ack is Serf's, so that Serf's agents take part.
 */
import type { Random } from '../base/random.ts';
import { unpack, map, type Packed } from './msgpack.ts';

const DIMENSIONS = 8;
/** Error of a node that knows nothing, and the most that is admitted. */
const MAX_ERROR = 1.5;
/** How much one observation moves the error and the place at most. */
const ERROR_WEIGHT = 0.25;
const FORCE_WEIGHT = 0.25;
const ADJUSTMENT_SAMPLES = 20;
/** Seconds: no link is shorter. */
const MIN_HEIGHT = 10e-6;
const ZERO = 1e-6;
/** The median of so many round trips to one peer counts: a single slow one does not. */
const FILTER_SAMPLES = 3;
/** Draws all slowly to the origin, or the whole space would drift. Seconds. */
const GRAVITY = 150;
/** Seconds: a round trip beyond that is a fault of measurement, and a coordinate a forgery. */
const MAX_SECONDS = 10;
const PAYLOAD_VERSION = 1;

/** Seconds throughout, as on the wire. */
export interface Coordinate {
  readonly vector: readonly number[];
  /** The way from the node to the network's core. */
  readonly height: number;
  /** Constant that makes distances fit better. */
  readonly adjustment: number;
  /** How little the node trusts its place; 0 is sure. */
  readonly error: number;
}

const ORIGIN: Coordinate = { vector: Array.from({ length: DIMENSIONS }, () => 0), height: MIN_HEIGHT, adjustment: 0, error: MAX_ERROR };

const magnitude = (vector: readonly number[]): number => Math.hypot(...vector);
const difference = (a: readonly number[], b: readonly number[]): number[] => a.map((value, i) => value - b[i]!);
const rawDistance = (a: Coordinate, b: Coordinate): number => magnitude(difference(a.vector, b.vector)) + a.height + b.height;

/** Estimated round trip in seconds. */
export function distance(a: Coordinate, b: Coordinate): number {
  const raw = rawDistance(a, b);
  const adjusted = raw + a.adjustment + b.adjustment;
  return adjusted > 0 ? adjusted : raw;
}

const isUsable = ({ vector, height, adjustment, error }: Coordinate): boolean =>
  vector.length === DIMENSIONS && [...vector, height, adjustment, error].every((value) => Number.isFinite(value) && Math.abs(value) <= MAX_SECONDS) && height >= 0 && error >= 0;

export interface Coordinates {
  readonly own: Coordinate;
  /** What a round trip of `seconds` to a peer at `other` teaches; an implausible one is ignored. */
  observe(peer: string, other: Coordinate, seconds: number): void;
  /** Where a peer last said it is. */
  of(peer: string): Coordinate | undefined;
  forget(peer: string): void;
}

export function createCoordinates(random: Random): Coordinates {
  let own = ORIGIN;
  const samples: number[] = [];
  const latencies = new Map<string, number[]>();
  const places = new Map<string, Coordinate>();

  function median(peer: string, seconds: number): number {
    const recent = latencies.get(peer) ?? [];
    recent.push(seconds);
    if (recent.length > FILTER_SAMPLES) recent.shift();
    latencies.set(peer, recent);
    return recent.toSorted((a, b) => a - b)[recent.length >> 1]!;
  }

  /** Pushed away from `other` (drawn to it, when negative). */
  function push(at: Coordinate, force: number, other: Coordinate): Coordinate {
    const away = difference(at.vector, other.vector);
    const span = magnitude(away);
    // From the same place any direction will do.
    const direction = span > ZERO ? away.map((value) => value / span) : randomUnit();
    const vector = at.vector.map((value, i) => value + direction[i]! * force);
    const height = span > ZERO ? Math.max(MIN_HEIGHT, ((at.height + other.height) * force) / span + at.height) : at.height;
    return { ...at, vector, height };
  }

  function randomUnit(): number[] {
    const vector = Array.from({ length: DIMENSIONS }, () => random.float() - 0.5);
    const span = magnitude(vector);
    return vector.map((value) => (span > ZERO ? value / span : 0));
  }

  function adjust(at: Coordinate, other: Coordinate, seconds: number): Coordinate {
    samples.push(seconds - rawDistance(at, other));
    if (samples.length > ADJUSTMENT_SAMPLES) samples.shift();
    return { ...at, adjustment: samples.reduce((sum, each) => sum + each, 0) / (2 * ADJUSTMENT_SAMPLES) };
  }

  function gravitate(at: Coordinate): Coordinate {
    const span = magnitude(at.vector);
    return push(at, -((span / GRAVITY) ** 2), { ...ORIGIN, height: 0 });
  }

  return {
    get own() { return own; },
    observe: (peer, other, roundTrip) => {
      if (!isUsable(other) || !(roundTrip >= 0 && roundTrip <= MAX_SECONDS)) return;
      places.set(peer, other);
      const seconds = Math.max(ZERO, median(peer, roundTrip));
      const expected = distance(own, other);
      const weight = own.error / Math.max(ZERO, own.error + other.error);
      const wrongness = Math.abs(expected - seconds) / seconds;
      const error = Math.min(MAX_ERROR, ERROR_WEIGHT * weight * wrongness + own.error * (1 - ERROR_WEIGHT * weight));
      const moved = push({ ...own, error }, FORCE_WEIGHT * weight * (seconds - expected), other);
      const next = gravitate(adjust(moved, other, seconds));
      own = isUsable(next) ? next : ORIGIN;
    },
    of: (peer) => places.get(peer),
    forget: (peer) => {
      places.delete(peer);
      latencies.delete(peer);
    },
  };
}

function float64(value: number): Buffer {
  const bytes = Buffer.alloc(9);
  bytes[0] = 0xcb;
  bytes.writeDoubleBE(value, 1);
  return bytes;
}

/** Serf's payload of an ack: a version byte and a map of float64. */
export function encodeCoordinate({ vector, height, adjustment, error }: Coordinate): Buffer {
  return Buffer.concat([
    Buffer.of(PAYLOAD_VERSION),
    map({ Adjustment: float64(adjustment), Error: float64(error), Height: float64(height), Vec: Buffer.concat([Buffer.of(0x90 | vector.length), ...vector.map(float64)]) }),
  ]);
}

/** undefined for what is none, or none that could be true. */
export function decodeCoordinate(payload: Buffer): Coordinate | undefined {
  if (payload[0] !== PAYLOAD_VERSION) return undefined;
  let value: Packed;
  try {
    ({ value } = unpack(payload, 1));
  } catch {
    return undefined;
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value) || Buffer.isBuffer(value)) return undefined;
  const { Vec: vector, Height: height, Adjustment: adjustment, Error: error } = value;
  if (!Array.isArray(vector) || !vector.every((each) => typeof each === 'number') || typeof height !== 'number' || typeof adjustment !== 'number' || typeof error !== 'number') return undefined;
  const coordinate = { vector, height, adjustment, error };
  return isUsable(coordinate) ? coordinate : undefined;
}
