/** Options of commands as requests have them. */

/** For an option that may be repeated; undefined when it is not given. */
export const collect = (value: string, before: string[] = []): string[] => [...before, value];

/** ['a=1', 'b'] → {a: '1', b: ''}; undefined when there are none. */
export const pairs = (texts: string[] | undefined): Record<string, string> | undefined =>
  texts && Object.fromEntries(texts.map((text) => {
    const at = text.indexOf('=');
    return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
  }));

export const defined = (fields: Record<string, unknown>): object => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
