/** Who was given which address and when, as the callers saw it; ipam/tenures-for-tests.ts says whether that can be right. */
import type { Tenure } from '../../ipam/tenures-for-tests.ts';

export class History {
  readonly tenures: Tenure[] = [];
  #events = 0;

  /** The answer to an acquisition has come. */
  given(address: string, holder: string, node: number): Tenure {
    const tenure: Tenure = { address: address.split('/')[0]!, holder, node, from: this.mark(), fromMs: performance.now() };
    this.tenures.push(tenure);
    return tenure;
  }

  /**
   * Its release is called, or was at the event `at`; a repeated call changes nothing. The rest may begin with the call,
   * so it is counted from there: the check must not find what is none.
   */
  released(tenure: Tenure, at = this.mark()): void {
    tenure.to ??= at;
    tenure.endedMs ??= performance.now();
  }

  /** A point in the order of events. */
  mark(): number {
    return this.#events++;
  }
}
