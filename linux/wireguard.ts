/** WireGuard links of a namespace, configured without its own tools. The links themselves are rtnetlink's (`kind: 'wireguard'`). */
import { openFamily } from './generic-netlink.ts';
import { KernelError, type Netns } from './types.ts';
import { WG, decodeDevice, deviceQuestion, encodeChange, type WireguardChange, type WireguardState } from './wireguard-messages.ts';

export interface Wireguard {
  /** Throws KernelError ENODEV where there is no such link. */
  get(link: string): WireguardState;
  /** All of it is tried; throws the first failure. */
  set(link: string, change: WireguardChange): void;
  close(): void;
}

/** undefined where this kernel has no WireGuard, neither built in nor as a module that can be loaded. */
export function openWireguard(netns: Netns): Wireguard | undefined {
  const family = openFamily(netns, WG.FAMILY, WG.VERSION);
  return family && {
    get: (link) => decodeDevice(family.dump(`read WireGuard link ${link}`, WG.CMD_GET_DEVICE, deviceQuestion(link))),
    set: (link, change) => {
      const what = `change WireGuard link ${link}`;
      const [failed] = family.batch(what, WG.CMD_SET_DEVICE, encodeChange(link, change));
      if (failed) throw new KernelError(what, failed.error.code, failed.error.detail);
    },
    close: () => family.close(),
  };
}
