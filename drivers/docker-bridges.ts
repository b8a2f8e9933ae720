/**
 * Docker's own bridges on this host. Our links are accepted in the host's FORWARD chain, which would lead to unpublished
 * ports of Docker's containers as well; Docker keeps its networks apart from each other, and so do we.
 */
import type { Rtnl } from '../linux/types.ts';

const DOCKERS = /^(docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

export const isDockerBridge = (name: string): boolean => DOCKERS.test(name);

export interface DockerBridges {
  names(): string[];
  close(): void;
}

/** `onChange` is called when one comes or goes. Bridges that a user named are not known (com.docker.network.bridge.name). */
export function watchDockerBridges(host: Rtnl, onChange: () => void): DockerBridges {
  const read = (): string[] => host.links().flatMap(({ name }) => (isDockerBridge(name) ? [name] : [])).sort();
  let names = read();
  const close = host.watch((event) => {
    if (event.type !== 'lost' && !(event.type === 'link' && isDockerBridge(event.link.name) && names.includes(event.link.name) === event.gone)) return;
    const before = names.join();
    names = read();
    if (names.join() !== before) onChange();
  });
  return { names: () => names, close };
}
