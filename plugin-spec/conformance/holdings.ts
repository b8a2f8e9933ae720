/**
 * What a plugin holds on behalf of the kit, kept from the calls that go by: whatever happens to a check, all of it can
 * be given back.
 */

export interface Call { call: string; body: Record<string, unknown> }

export interface Holdings {
  /** Before a call is sent: what it makes may exist from now on, even if its answer is lost. */
  sent(call: string, body: unknown): void;
  /** When it was answered; `value` is undefined for a refusal. */
  answered(call: string, body: unknown, value: Record<string, unknown> | undefined): void;
  /** The calls that give everything back, in Docker's order. */
  removal(): Call[];
}

type Ids = { NetworkID?: string; EndpointID?: string; PoolID?: string; Address?: string };

const plain = (address: unknown): string => String(address).split('/', 1)[0]!;
const isId = (value: unknown): value is string => typeof value === 'string' && value !== '';

export function createHoldings(): Holdings {
  /** The call that removes it, by call and ids. */
  const held = new Map<string, Call>();
  /** Made by a call that is under way, by no earlier one: a refusal takes it off again. */
  const unsure = new Set<string>();
  const key = (call: string, { NetworkID, EndpointID, PoolID, Address }: Ids): string => [call, NetworkID ?? PoolID, EndpointID ?? Address].join(' ');

  const madeBy = (call: string, body: unknown): Call | undefined => {
    const { NetworkID, EndpointID } = (body ?? {}) as Ids;
    if (!isId(NetworkID)) return undefined;
    switch (call) {
      case 'NetworkDriver.AllocateNetwork': return { call: 'NetworkDriver.FreeNetwork', body: { NetworkID } };
      case 'NetworkDriver.CreateNetwork': return { call: 'NetworkDriver.DeleteNetwork', body: { NetworkID } };
      case 'NetworkDriver.CreateEndpoint': return isId(EndpointID) ? { call: 'NetworkDriver.DeleteEndpoint', body: { NetworkID, EndpointID } } : undefined;
      case 'NetworkDriver.Join': return isId(EndpointID) ? { call: 'NetworkDriver.Leave', body: { NetworkID, EndpointID } } : undefined;
      default: return undefined;
    }
  };
  const hold = (made: Call): void => void held.set(key(made.call, made.body), made);
  const drop = (gone: (call: Call) => boolean): void => {
    for (const [name, call] of held) if (gone(call)) held.delete(name);
  };

  return {
    sent(call, body) {
      const made = madeBy(call, body);
      if (!made || held.has(key(made.call, made.body))) return;
      unsure.add(key(made.call, made.body));
      hold(made);
    },
    answered(call, body, value) {
      const ids = (body ?? {}) as Ids;
      const made = madeBy(call, body);
      if (made) {
        const name = key(made.call, made.body);
        if (unsure.delete(name) && value === undefined) held.delete(name);
      }
      if (value === undefined) return;
      const { PoolID } = ids;
      switch (call) {
        case 'IpamDriver.RequestPool': return hold({ call: 'IpamDriver.ReleasePool', body: { PoolID: value['PoolID'] } });
        case 'IpamDriver.RequestAddress': return hold({ call: 'IpamDriver.ReleaseAddress', body: { PoolID, Address: plain(value['Address']) } });
        case 'IpamDriver.ReleasePool': return drop(({ body: of }) => isId(PoolID) && of['PoolID'] === PoolID);
        case 'NetworkDriver.DeleteEndpoint': return drop(({ body: of }) => isId(ids.EndpointID) && of['EndpointID'] === ids.EndpointID);
        case 'NetworkDriver.DeleteNetwork': return drop(({ call: each, body: of }) => isId(ids.NetworkID) && of['NetworkID'] === ids.NetworkID && each !== 'NetworkDriver.FreeNetwork');
        default: held.delete(key(call, ids));
      }
    },
    removal() {
      const order = ['NetworkDriver.Leave', 'NetworkDriver.DeleteEndpoint', 'NetworkDriver.DeleteNetwork', 'NetworkDriver.FreeNetwork', 'IpamDriver.ReleaseAddress', 'IpamDriver.ReleasePool'];
      return [...held.values()].sort((a, b) => order.indexOf(a.call) - order.indexOf(b.call));
    },
  };
}
