/** The example plugin with one fault each: by the name of the check that is there to find it. */
import http from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { examplePlugin, ipamDriver, networkDriver, type Body, type Handler } from './example-plugin.ts';

type Handlers = Record<string, Handler>;
type Replace = (correct: Handlers) => Handlers;
/** Serves the request itself and returns true, or leaves it to the plugin. */
type Intercept = (request: http.IncomingMessage, response: http.ServerResponse, server: http.Server) => boolean;

const both = (): Handlers => ({ ...networkDriver(), ...ipamDriver() });
const id = (body: Body, key = 'NetworkID'): string => String(body[key]);
const addressOf = (body: Body): string => String((body['Interface'] as Body | undefined)?.['Address']);
const subnetOf = (body: Body): string => String(((body['IPv4Data'] ?? []) as Body[])[0]?.['Pool']);

/** Some handlers of the correct plugin replaced. */
const withHandlers = (replace: Replace, correct = both()): http.Server => examplePlugin({ ...correct, ...replace(correct) });

const without = (...calls: string[]): http.Server => examplePlugin(Object.fromEntries(Object.entries(both()).filter(([call]) => !calls.includes(call))));

function intercepted(intercept: Intercept): http.Server {
  const server = examplePlugin(both());
  const [serve] = server.listeners('request') as http.RequestListener[];
  return server.removeAllListeners('request').on('request', (request: http.IncomingMessage, response: http.ServerResponse & { req: http.IncomingMessage }) => {
    if (!intercept(request, response, server)) serve!(request, response);
  });
}

const reply = (request: http.IncomingMessage, response: http.ServerResponse, status: number): boolean => {
  request.resume().on('end', () => response.writeHead(status).end('{}'));
  return true;
};

/** Refuses what the first call of its kind was accepted with. */
function once(handler: Handler, key: (body: Body) => string): Handler {
  const seen = new Set<string>();
  return (body) => {
    if (seen.has(key(body))) throw new Error(`${key(body)} was used before`);
    seen.add(key(body));
    return handler(body);
  };
}

/** Remembers what a call was accepted for, until another call undoes it. */
function between(make: Handler, undo: Handler, key: (body: Body) => string): { make: Handler; undo: Handler; held: Set<string> } {
  const held = new Set<string>();
  return {
    held,
    make: (body) => {
      const answer = make(body);
      held.add(key(body));
      return answer;
    },
    undo: (body) => {
      const answer = undo(body);
      held.delete(key(body));
      return answer;
    },
  };
}

const refuseUnless = (condition: boolean, message: string): void => {
  if (!condition) throw new Error(message);
};

const plainCalls = new Set(['/Plugin.Activate', '/NetworkDriver.GetCapabilities', '/IpamDriver.GetCapabilities', '/IpamDriver.GetDefaultAddressSpaces']);
const accepting = (service: string): Intercept => (request, response) =>
  request.headers['content-length'] === '0' && request.url!.startsWith(`/${service}.`) && !plainCalls.has(request.url!) && reply(request, response, 200);

export const FAULTS: Record<string, () => http.Server> = {
  'activate': () => {
    const order = ['NetworkDriver', 'IpamDriver'];
    return withHandlers(() => ({ 'Plugin.Activate': () => ({ Implements: order.reverse() }) }));
  },
  'empty-host': () => intercepted((request, response) => !request.headers.host && reply(request, response, 400)),
  'content-type': () => intercepted((request, response) => !request.headers['content-type'] && request.headers['content-length'] !== '0' && reply(request, response, 415)),
  'idle-connections': () => Object.assign(examplePlugin(both()), { keepAliveTimeout: 5_000 }),
  'unknown-call': () => intercepted((request, response) => request.url!.endsWith('NoSuchCall') && reply(request, response, 200)),
  'half-request': () => intercepted((request, _response, server) => {
    request.on('aborted', () => {
      server.close();
      server.closeAllConnections();
    });
    return false;
  }),
  'capabilities': () => {
    let asked = 0;
    return withHandlers(() => ({ 'NetworkDriver.GetCapabilities': () => ({ Scope: 'local', GwAllocChecker: asked++ % 2 === 0 }) }));
  },
  'network': () => without('NetworkDriver.EndpointOperInfo'),
  'same-subnet': () => withHandlers(({ 'NetworkDriver.CreateNetwork': create }) => ({ 'NetworkDriver.CreateNetwork': once(create!, subnetOf) })),
  'restart-container': () => withHandlers(({ 'NetworkDriver.CreateEndpoint': create }) => ({ 'NetworkDriver.CreateEndpoint': once(create!, (body) => `${id(body)} ${addressOf(body)}`) })),
  'fields-of-docker': () => withHandlers(() => ({ 'NetworkDriver.CreateEndpoint': (body) => ({ Interface: body['Interface'] }) })),
  'mac-address': () => withHandlers(() => ({ 'NetworkDriver.CreateEndpoint': () => ({}) })),
  'internal': () => withHandlers(({ 'NetworkDriver.Join': join }) => ({ 'NetworkDriver.Join': (body) => ({ ...join!(body) as object, Gateway: '10.0.0.1' }) })),
  'ipv6': () => withHandlers(({ 'NetworkDriver.Join': join }) => ({ 'NetworkDriver.Join': (body) => ({ ...join!(body) as object, GatewayIPv6: 'fd00::1/64' }) })),
  'parallel-networks': () => withHandlers(({ 'NetworkDriver.CreateNetwork': create, 'NetworkDriver.CreateEndpoint': endpoint }) => {
    let current = '';
    return {
      'NetworkDriver.CreateNetwork': (body) => {
        current = id(body);
        return create!(body);
      },
      'NetworkDriver.CreateEndpoint': (body) => {
        refuseUnless(id(body) === current, 'another network is current');
        return endpoint!(body);
      },
    };
  }),
  'several-endpoints': () => withHandlers(({ 'NetworkDriver.Join': join }) => ({
    'NetworkDriver.Join': (body) => ({ ...join!(body) as object, InterfaceName: { SrcName: `ex${id(body).slice(0, 10)}`, DstPrefix: 'eth' } }),
  })),
  'nulls': () => withHandlers(({ 'NetworkDriver.CreateNetwork': create }) => ({
    'NetworkDriver.CreateNetwork': (body) => {
      refuseUnless(Array.isArray(body['IPv6Data']), "Cannot read properties of null (reading 'length')");
      return create!(body);
    },
  })),
  'gateway-check': () => without('NetworkDriver.GwAllocCheck'),
  'swarm': () => withHandlers(({ 'NetworkDriver.CreateNetwork': create }) => ({
    'NetworkDriver.CreateNetwork': (body) => {
      refuseUnless(/^[0-9a-f]{64}$/.test(id(body)), 'expected an id of 64 digits');
      return create!(body);
    },
  }), { ...networkDriver({ scope: 'global' }) }),
  'discovery': () => without('NetworkDriver.DiscoverNew'),
  'create-twice': () => withHandlers(({ 'NetworkDriver.CreateNetwork': create }) => ({ 'NetworkDriver.CreateNetwork': once(create!, id) })),
  'empty-body': () => intercepted(accepting('NetworkDriver')),
  'malformed': () => withHandlers(() => ({ 'NetworkDriver.Leave': () => ({}) })),
  'aborted-call': () => {
    // The lock of a network is given back when its answer is sent, which never happens.
    let locked = false;
    return intercepted((request, response) => {
      if (request.url === '/NetworkDriver.CreateNetwork') response.on('close', () => (locked ||= !response.writableFinished));
      return locked && request.url === '/NetworkDriver.DeleteNetwork' && reply(request, response, 500);
    });
  },
  'no-leave': () => withHandlers((correct) => {
    const { make, undo, held } = between(correct['NetworkDriver.Join']!, correct['NetworkDriver.Leave']!, (body) => id(body, 'EndpointID'));
    return {
      'NetworkDriver.Join': make,
      'NetworkDriver.Leave': undo,
      'NetworkDriver.DeleteEndpoint': (body) => {
        refuseUnless(!held.has(id(body, 'EndpointID')), 'the endpoint is in use');
        return correct['NetworkDriver.DeleteEndpoint']!(body);
      },
    };
  }),
  'daemon-restart': () => {
    // What it knows is gone with every activation.
    let network = networkDriver();
    const late = Object.fromEntries(Object.keys(network).map((call): [string, Handler] => [call, (body) => network[call]!(body)]));
    return examplePlugin({ ...late, 'Plugin.Activate': () => {
      network = networkDriver();
      return { Implements: ['NetworkDriver'] };
    } });
  },
  'daemon-killed': () => withHandlers((correct) => {
    const users = new Map<string, string>();
    return {
      'NetworkDriver.CreateEndpoint': (body) => {
        const place = `${id(body)} ${addressOf(body)}`;
        refuseUnless((users.get(place) ?? id(body, 'EndpointID')) === id(body, 'EndpointID'), `${addressOf(body)} is in use`);
        const answer = correct['NetworkDriver.CreateEndpoint']!(body);
        users.set(place, id(body, 'EndpointID'));
        return answer;
      },
      'NetworkDriver.DeleteEndpoint': (body) => {
        for (const [place, user] of users) if (user === id(body, 'EndpointID')) users.delete(place);
        return correct['NetworkDriver.DeleteEndpoint']!(body);
      },
    };
  }),
  'forgotten-endpoints': () => withHandlers((correct) => {
    const { make, undo, held } = between(correct['NetworkDriver.CreateEndpoint']!, correct['NetworkDriver.DeleteEndpoint']!, (body) => `${id(body)} ${id(body, 'EndpointID')}`);
    return {
      'NetworkDriver.CreateEndpoint': make,
      'NetworkDriver.DeleteEndpoint': undo,
      'NetworkDriver.DeleteNetwork': (body) => {
        refuseUnless(![...held].some((each) => each.startsWith(`${id(body)} `)), 'the network has endpoints');
        return correct['NetworkDriver.DeleteNetwork']!(body);
      },
    };
  }),
  'remove-twice': () => withHandlers((correct) => {
    const { make, undo, held } = between(correct['NetworkDriver.Join']!, correct['NetworkDriver.Leave']!, (body) => id(body, 'EndpointID'));
    return {
      'NetworkDriver.Join': make,
      'NetworkDriver.Leave': (body) => {
        refuseUnless(held.has(id(body, 'EndpointID')), 'the endpoint has not joined');
        return undo(body);
      },
    };
  }),
  'remove-unknown': () => withHandlers((correct) => {
    const { make, undo, held } = between(correct['NetworkDriver.CreateNetwork']!, correct['NetworkDriver.DeleteNetwork']!, id);
    return {
      'NetworkDriver.CreateNetwork': make,
      'NetworkDriver.DeleteNetwork': (body) => {
        refuseUnless(held.has(id(body)), 'no such network');
        return undo(body);
      },
    };
  }),
  'use-unknown': () => withHandlers(() => ({ 'NetworkDriver.CreateEndpoint': () => ({}) })),
  'refusal': () => withHandlers(() => ({ 'NetworkDriver.CreateEndpoint': () => ({ Err: '42' }) })),
  'ipam-capabilities': () => {
    let asked = 0;
    return withHandlers(() => ({ 'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: asked++ % 2 === 0 }) }));
  },
  'address-spaces': () => withHandlers(() => ({ 'IpamDriver.GetDefaultAddressSpaces': () => ({ LocalDefaultAddressSpace: 'example' }) })),
  'pool': () => withHandlers(({ 'IpamDriver.RequestAddress': request }) => ({
    'IpamDriver.RequestAddress': (body) => ({ Address: (request!(body) as { Address: string }).Address.replace(/24$/, '32') }),
  })),
  'same-pool': () => withHandlers(({ 'IpamDriver.RequestPool': request }) => ({ 'IpamDriver.RequestPool': once(request!, (body) => id(body, 'Pool')) })),
  'same-address': () => withHandlers(() => ({ 'IpamDriver.ReleaseAddress': () => ({}) })),
  'taken-address': () => withHandlers(() => ({ 'IpamDriver.GetCapabilities': () => ({}) }), ipamDriver({ replay: true })),
  'chosen-pools': () => withHandlers(({ 'IpamDriver.RequestPool': request }) => ({ 'IpamDriver.RequestPool': (body) => request!({ ...body, Pool: body['Pool'] || '10.209.0.0/24' }) })),
  'parallel-addresses': () => withHandlers(() => {
    const taken = new Map<string, number>();
    return {
      // Looks, does something else, and takes.
      'IpamDriver.RequestAddress': async (body) => {
        const pool = id(body, 'PoolID');
        const host = (taken.get(pool) ?? 0) + 1;
        await pause(10);
        taken.set(pool, host);
        return { Address: pool.replace(/0\/24.*/, `${host}/24`) };
      },
    };
  }),
  'ip-range': () => withHandlers(({ 'IpamDriver.RequestPool': request }) => ({ 'IpamDriver.RequestPool': (body) => request!({ ...body, SubPool: '' }) })),
  'ipam-ipv6': () => withHandlers(({ 'IpamDriver.RequestPool': request }) => ({ 'IpamDriver.RequestPool': (body) => request!({ ...body, Pool: body['V6'] ? '' : body['Pool'] }) })),
  'unknown-pool': () => withHandlers(() => ({ 'IpamDriver.RequestAddress': () => ({ Address: '10.0.0.1/24' }) })),
  'release-again': () => withHandlers((correct) => {
    const held = new Set<string>();
    return {
      'IpamDriver.RequestPool': (body) => {
        const answer = correct['IpamDriver.RequestPool']!(body) as { PoolID: string };
        held.add(answer.PoolID);
        return answer;
      },
      'IpamDriver.ReleasePool': (body) => {
        refuseUnless(held.delete(id(body, 'PoolID')), 'no such pool');
        return correct['IpamDriver.ReleasePool']!(body);
      },
    };
  }),
  'replay': () => withHandlers(() => ({ 'IpamDriver.GetCapabilities': () => ({ RequiresRequestReplay: true }) })),
  'ipam-empty-body': () => intercepted(accepting('IpamDriver')),
  'ipam-malformed': () => withHandlers(() => ({ 'IpamDriver.ReleaseAddress': () => ({}) })),
};
