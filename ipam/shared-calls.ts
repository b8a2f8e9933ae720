/** Calls that are under way are shared by all who ask for the same. */
export function createSharedCalls<Scope extends object, Result>(): (scope: Scope, key: string, call: () => Promise<Result>) => Promise<Result> {
  const running = new WeakMap<Scope, Map<string, Promise<Result>>>();
  return (scope, key, call) => {
    const ofScope = running.get(scope) ?? new Map<string, Promise<Result>>();
    running.set(scope, ofScope);
    const started = ofScope.get(key) ?? call().finally(() => ofScope.delete(key));
    ofScope.set(key, started);
    return started;
  };
}
