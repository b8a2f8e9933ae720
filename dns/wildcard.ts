/**
 * The wildcard that covers a lower-case name: of several the closest, and none where the name stands below one that exists itself
 * (RFC 4592 §3.3.1). undefined where nothing covers it.
 */
export function wildcardFor(name: string, has: (name: string) => boolean): string | undefined {
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    const above = name.slice(dot + 1);
    const wildcard = `*.${above}`;
    if (has(wildcard)) return wildcard;
    if (has(above)) return undefined;
  }
  return undefined;
}
