/** The ways to the nodes that this one has to do with, tried all the time, and the questions of others answered. */
import type { Clock, TimerHandle } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import type { NodeInfo, SoftState } from '../../cluster/state.ts';
import { openPacketSocket, type PacketSocket } from '../../linux/packet-socket.ts';
import { KernelError } from '../../linux/types.ts';
import type { Fabric } from './fabric.ts';
import { nodesInTouch } from './nodes-in-touch.ts';
import { Path, REST_MS, SMALL } from './path.ts';
import { ETHER_TYPE, decodePathFrame, encodePathFrame } from './path-frames.ts';

/** How long a frame may lie in the socket: each look costs more than what is found there. */
const LOOK_MS = 1_000;
/** While somebody waits for it. */
const URGENT_LOOK_MS = 100;
/** After a small question, by which it is known that somebody does. */
const URGENT_FOR_MS = 2_000;

export interface PathProbesOptions {
  state: Pick<SoftState, 'self' | 'list'>;
  self(): NodeInfo;
  /** All that there is a way to. */
  peers(): readonly NodeInfo[];
  /** MTU of weft-in: the full size. */
  said(): number;
  open(): PathLink | undefined;
  memory: PathMemory;
  /** Other sizes arrive. */
  onChange(): void;
  clock: Clock;
  random: Random;
}

/** Outlives this process: else packets would be as large as is said after each start, and get lost until that is found again. By number of the node. */
export interface PathMemory { load(): ReadonlyMap<number, number>; save(found: ReadonlyMap<number, number>): void }

/** The socket at weft-in. */
export type PathLink = Pick<PacketSocket, 'send' | 'receive' | 'close'> & { /** Whether it is still the right one. */ isCurrent(): boolean };

export interface PathProbes {
  /** The largest size that arrives at a node, by number, where it is not the full one. */
  found(): ReadonlyMap<number, number>;
  close(): void;
}

/** undefined until there is a weft-in. */
export function openPathLink({ netns, tunnel }: Pick<Fabric, 'netns' | 'tunnel'>): PathLink | undefined {
  const index = tunnel();
  return index === undefined ? undefined : { ...openPacketSocket(netns, index, ETHER_TYPE), isCurrent: () => tunnel() === index };
}

export function createPathProbes({ state, self, peers, said, open, memory, onChange, clock, random }: PathProbesOptions): PathProbes {
  const paths = new Map<number, Path>();
  let found = memory.load();
  let listedAt = -Infinity;
  let link: PathLink | undefined;
  let urgentUntil = -Infinity;

  const add = (node: number, size?: number): void => void paths.set(node, new Path(clock.now() + random.int(REST_MS), random.int(2 ** 32), size));
  for (const [node, size] of found) add(node, size);

  /** A way that was found to carry less is tried for as long as its node is there. */
  function list(): void {
    listedAt = clock.now();
    const there = peers();
    const wanted = nodesInTouch(state, there);
    for (const node of wanted) if (!paths.has(node)) add(node);
    for (const { number } of there) if (found.has(number)) wanted.add(number);
    for (const node of paths.keys()) if (!wanted.has(node)) paths.delete(node);
  }

  function current(): PathLink | undefined {
    if (link?.isCurrent()) return link;
    link?.close();
    link = undefined;
    return (link = open());
  }

  function take(from: PathLink): void {
    for (const frame of from.receive()) {
      const heard = decodePathFrame(self().number, frame);
      if (heard?.kind === 'question') {
        if (heard.size === SMALL) urgentUntil = clock.now() + URGENT_FOR_MS;
        from.send(encodePathFrame(self().number, { ...heard, kind: 'answer' }));
      } else if (heard) paths.get(heard.node)?.answered(clock.now(), heard.round, heard.size);
    }
  }

  function ask(to: PathLink, node: number, path: Path): void {
    const question = path.step(clock.now(), said());
    for (const size of question?.sizes ?? []) {
      try {
        to.send(encodePathFrame(self().number, { kind: 'question', node, round: question!.round, size }));
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        // weft-in is down, or its MTU is another one by now: that nothing comes back says nothing.
        path.void();
      }
    }
  }

  function look(): void {
    if (clock.now() - listedAt >= REST_MS) list();
    try {
      const at = current();
      if (!at) return;
      take(at);
      for (const [node, path] of paths) if (path.due <= clock.now()) ask(at, node, path);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      // weft-in went away or down.
      link?.close();
      link = undefined;
    }
  }

  function compare(): void {
    const after = new Map<number, number>();
    for (const [node, { found: size, isUrgent }] of paths) {
      if (size !== undefined) after.set(node, size);
      if (isUrgent) urgentUntil = clock.now() + URGENT_FOR_MS;
    }
    if (after.size === found.size && [...after].every(([node, size]) => found.get(node) === size)) return;
    found = after;
    memory.save(found);
    onChange();
  }

  const again = (): void => {
    look();
    compare();
    timer = clock.setTimeout(again, clock.now() < urgentUntil ? URGENT_LOOK_MS : LOOK_MS);
  };
  let timer: TimerHandle = clock.setTimeout(again, LOOK_MS);

  return {
    found: () => found,
    close: () => {
      clock.clearTimeout(timer);
      link?.close();
    },
  };
}
