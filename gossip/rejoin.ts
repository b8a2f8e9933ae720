/** Looks for seeds that are not members and for members that failed, for ever: islands merge by themselves. */
import { errorText } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { shuffle, type Random } from '../base/random.ts';
import type { Beliefs } from './beliefs.ts';
import { sameAddress } from './members.ts';
import type { Address } from './messages.ts';
import type { Timers } from './timers.ts';
import type { Tuning } from './tuning.ts';

/** Tried at once: enough to find an island, few enough not to storm a seed. */
const SEEDS_AT_ONCE = 3;

export interface RejoinOptions {
  address: Address;
  tuning: Tuning;
  random: Random;
  timers: Timers;
  log: Logger;
  beliefs: Beliefs;
  exchange(with_: Address): Promise<void>;
}

/** Starts at once, since a node that has just started knows nobody. */
export function startRejoin(seeds: () => Promise<readonly Address[]>, { address, tuning, random, timers, log, beliefs, exchange }: RejoinOptions): void {
  let inVain = 0;
  const complaints = new Map<string, string>();

  /** Logs each address's complaint once, not every few seconds. */
  async function attempt(to: Address): Promise<boolean> {
    const key = `${to.host}:${to.port}`;
    try {
      await exchange(to);
      complaints.delete(key);
      return true;
    } catch (error) {
      const detail = errorText(error);
      if (complaints.get(key) !== detail) log.info({ address: key, detail }, 'a node of the cluster cannot be joined; tried again');
      complaints.set(key, detail);
      return false;
    }
  }

  async function round(): Promise<void> {
    const live = beliefs.others('alive', 'suspect');
    const absent = (await seeds()).filter((seed) => !sameAddress(seed, address) && !live.some((member) => sameAddress(member.address, seed)));
    const failed = shuffle(beliefs.others('dead').map((member) => member.address), random).slice(0, 1);
    const targets = [...shuffle([...absent], random).slice(0, SEEDS_AT_ONCE), ...failed.filter((each) => !absent.some((seed) => sameAddress(seed, each)))];
    const results = await Promise.all(targets.map(attempt));
    inVain = results.length > 0 && !results.includes(true) ? inVain + 1 : 0;
  }

  async function next(): Promise<void> {
    try {
      await round();
    } catch (error) {
      log.warn({ detail: errorText(error) }, 'the addresses of other nodes could not be found out');
    }
    const alone = beliefs.others('alive', 'suspect').length === 0;
    timers.after(alone ? tuning.aloneInterval : Math.min(tuning.rejoinMaxInterval, tuning.rejoinInterval * 2 ** Math.min(inVain, 10)), () => void next());
  }
  timers.after(0, () => void next());
}
