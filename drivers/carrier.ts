import type { Rtnl } from '../linux/types.ts';
import { endpointDigits } from './names.ts';

/**
 * Tells when an endpoint's link gets carrier: its other end was moved into the sandbox and set up. Calls back with the
 * digits of the endpoint's id that its link is named with; first for those that have carrier already. `isNew`: it had none
 * a moment ago.
 */
export function watchCarrier(rtnl: Rtnl, onCarrier: (digits: string, up: boolean, isNew: boolean) => void): () => void {
  const up = new Set<string>();
  let isStart = true;
  const report = (name: string, carrier: boolean): void => {
    const digits = endpointDigits(name);
    if (digits === undefined) return;
    const isNew = carrier && !up.has(digits) && !isStart;
    if (carrier) up.add(digits);
    else up.delete(digits);
    onCarrier(digits, carrier, isNew);
  };
  const readAll = (): void => {
    for (const { name, carrier } of rtnl.links()) report(name, carrier);
  };
  const stop = rtnl.watch((event) => {
    if (event.type === 'lost') readAll();
    else if (event.type === 'link') report(event.link.name, event.link.carrier && !event.gone);
  });
  readAll();
  isStart = false;
  return stop;
}
