import type { Rtnl } from '../linux/types.ts';
import { endpointDigits } from './names.ts';

/**
 * Tells when an endpoint's link gets carrier: its other end was moved into the sandbox and set up. Calls back with the
 * digits of the endpoint's id that its link is named with; first for those that have carrier already.
 */
export function watchCarrier(rtnl: Rtnl, onCarrier: (digits: string, up: boolean) => void): () => void {
  const report = (name: string, up: boolean): void => {
    const digits = endpointDigits(name);
    if (digits !== undefined) onCarrier(digits, up);
  };
  const readAll = (): void => {
    for (const { name, carrier } of rtnl.links()) report(name, carrier);
  };
  const stop = rtnl.watch((event) => {
    if (event.type === 'lost') readAll();
    else if (event.type === 'link') report(event.link.name, event.link.carrier && !event.gone);
  });
  readAll();
  return stop;
}
