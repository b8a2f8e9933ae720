/** Steps of a story, printed as they are checked, and counted. */
export class Story {
  passed = 0;
  failed = 0;
  readonly #started = Date.now();

  chapter(title: string): void {
    console.log(`\n[${((Date.now() - this.#started) / 1000).toFixed(0).padStart(3)} s] ${title}`);
  }

  check(what: string, holds: boolean, detail = ''): void {
    if (holds) this.passed++;
    else this.failed++;
    console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${holds || detail === '' ? '' : `\n       ${detail.trim().replaceAll('\n', '\n       ')}`}`);
  }

  /** A check that asks until it holds or the time is over. */
  async eventually(what: string, ask: () => boolean | Promise<boolean>, withinMs: number, detail: () => string | Promise<string> = () => ''): Promise<void> {
    const start = Date.now();
    let holds = false;
    while (!holds && Date.now() - start < withinMs) {
      holds = await ask();
      if (!holds) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    this.check(`${what}${holds ? ` (${Date.now() - start} ms)` : ''}`, holds, holds ? '' : `not within ${withinMs} ms. ${await detail()}`);
  }

  note(text: string): void {
    console.log(`       ${text}`);
  }
}
