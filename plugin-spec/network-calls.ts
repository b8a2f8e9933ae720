/** The NetworkDriver calls on their handlers, with the answers in Docker's field names. */
import { call, plainCall, type Call } from './call.ts';
import * as schemas from './network-schemas.ts';
import type { CreateEndpointAnswer, CreateEndpointRequest, JoinAnswer, NetworkDriverHandlers } from './types.ts';

const nothing = async (done: Promise<void> | undefined): Promise<object> => {
  await done;
  return {};
};

export function networkCalls(handlers: NetworkDriverHandlers): [string, Call][] {
  const calls: [string, Call][] = [
    ['NetworkDriver.GetCapabilities', plainCall(async () => {
      const { scope, connectivityScope, gwAllocChecker } = await handlers.capabilities();
      return { Scope: scope, ConnectivityScope: connectivityScope, GwAllocChecker: gwAllocChecker };
    })],
    call('NetworkDriver.CreateNetwork', schemas.CreateNetwork, (request) => nothing(handlers.createNetwork(request))),
    call('NetworkDriver.DeleteNetwork', schemas.OnNetwork, (request) => nothing(handlers.deleteNetwork(request))),
    call('NetworkDriver.CreateEndpoint', schemas.CreateEndpoint, async (request) => endpointAnswer(request, await handlers.createEndpoint(request))),
    call('NetworkDriver.DeleteEndpoint', schemas.OnEndpoint, (request) => nothing(handlers.deleteEndpoint(request))),
    call('NetworkDriver.EndpointOperInfo', schemas.OnEndpoint, async (request) => ({ Value: await handlers.endpointOperInfo(request) })),
    call('NetworkDriver.Join', schemas.Join, async (request) => joinAnswer(await handlers.join(request))),
    call('NetworkDriver.Leave', schemas.OnEndpoint, (request) => nothing(handlers.leave(request))),
    call('NetworkDriver.ProgramExternalConnectivity', schemas.ProgramExternalConnectivity, (request) => nothing(handlers.programExternalConnectivity(request))),
    call('NetworkDriver.RevokeExternalConnectivity', schemas.OnEndpoint, (request) => nothing(handlers.revokeExternalConnectivity(request))),
    // Without a handler there is nothing to free and nobody to tell.
    call('NetworkDriver.FreeNetwork', schemas.OnNetwork, (request) => nothing(handlers.freeNetwork?.(request))),
    call('NetworkDriver.DiscoverNew', schemas.Discovery, (request) => nothing(handlers.discoverNew?.(request))),
    call('NetworkDriver.DiscoverDelete', schemas.Discovery, (request) => nothing(handlers.discoverDelete?.(request))),
  ];
  const allocateNetwork = handlers.allocateNetwork?.bind(handlers);
  const gwAllocCheck = handlers.gwAllocCheck?.bind(handlers);
  if (allocateNetwork) {
    calls.push(call('NetworkDriver.AllocateNetwork', schemas.AllocateNetwork, async (request) => ({ Options: (await allocateNetwork(request)).options })));
  }
  if (gwAllocCheck) {
    calls.push(call('NetworkDriver.GwAllocCheck', schemas.GwAllocCheck, async (request) => {
      const { skipIpv4, skipIpv6 } = await gwAllocCheck(request);
      return { SkipIPv4: skipIpv4, SkipIPv6: skipIpv6 };
    }));
  }
  return calls;
}

/** Docker takes a field that it had set itself for a modification, and refuses the endpoint. */
function endpointAnswer(request: CreateEndpointRequest, answer: CreateEndpointAnswer): object {
  return {
    Interface: {
      ...(request.address === undefined && { Address: answer.address }),
      ...(request.addressIpv6 === undefined && { AddressIPv6: answer.addressIpv6 }),
      ...(request.macAddress === undefined && { MacAddress: answer.macAddress }),
    },
  };
}

function joinAnswer({ interfaceName, gateway, gatewayIpv6, staticRoutes, disableGatewayService }: JoinAnswer): object {
  return {
    InterfaceName: { SrcName: interfaceName.srcName, DstPrefix: interfaceName.dstPrefix },
    Gateway: gateway,
    GatewayIPv6: gatewayIpv6,
    // RouteType 0 goes by a next hop, 1 is on the link.
    StaticRoutes: staticRoutes?.map(({ destination, nextHop }) => ({ Destination: destination, RouteType: nextHop === undefined ? 1 : 0, NextHop: nextHop })),
    DisableGatewayService: disableGatewayService,
  };
}
