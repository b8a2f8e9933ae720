/** What dockerd asks of a network driver on a bad day. */
import { checksOf, expect } from './check.ts';
import { malformed, refusesEmptyBody } from './malformed.ts';
import { PORTS, endpointRequest, idsOf, joinRequest, networkRequest, newNetwork, removal, start, startAndStop, stop } from './network-requests.ts';
import type { Kit } from './kit.ts';

/** As dockerd does: the first repetition comes after a second. */
const RETRY_MS = 1_000;

/** A valid request of each call that has one, for a network that is not there. */
function requests(kit: Kit): Record<string, Record<string, unknown>> {
  const ids = idsOf(kit);
  const subnet = kit.newSubnet();
  return {
    'NetworkDriver.CreateNetwork': networkRequest(ids.NetworkID, subnet),
    'NetworkDriver.CreateEndpoint': endpointRequest(ids, subnet.at(20)),
    'NetworkDriver.Join': joinRequest(kit, ids),
    'NetworkDriver.ProgramExternalConnectivity': { ...ids, Options: PORTS },
    'NetworkDriver.EndpointOperInfo': { ...ids },
    ...Object.fromEntries(removal(ids).map(({ call, body }) => [call, body])),
  };
}

async function running(kit: Kit) {
  const { ids, subnet } = await newNetwork(kit);
  return { ids, subnet, answered: await start(kit, ids, subnet.at(20)) };
}

/** dockerd is there again: what it asks before it uses a plugin. */
async function daemonReturns({ ok }: Kit): Promise<void> {
  await ok('Plugin.Activate');
  await ok('NetworkDriver.GetCapabilities');
}

export const networkDisorderChecks = checksOf('NetworkDriver', [
  {
    name: 'empty-body',
    level: 'must',
    rule: 'A call that comes without its body is refused, and the plugin lives on.',
    why: 'When a connection breaks after a request was sent, Docker repeats the call after 1, 2, 4 and 8 s with an empty body.',
    run: (kit) => refusesEmptyBody(kit, requests(kit), ['CreateNetwork', 'CreateEndpoint', 'Join'].map((call) => `NetworkDriver.${call}`)),
  },
  {
    name: 'malformed',
    level: 'should',
    rule: 'What is no JSON object, and members of a wrong type, are refused.',
    why: 'Docker sends none, but everybody who reaches the socket can; guessing at what was meant makes networks of it.',
    run: (kit) => malformed(kit, requests(kit)),
  },
  {
    name: 'aborted-call',
    level: 'must',
    rule: 'A call whose caller went away is finished or undone: the plugin lives on, and what was made can be removed.',
    why: 'dockerd was killed in the middle of docker network create.',
    run: async (kit) => {
      const NetworkID = kit.newId();
      await kit.abandon('NetworkDriver.CreateNetwork', networkRequest(NetworkID, kit.newSubnet()));
      await kit.pause(RETRY_MS);
      await kit.refused('NetworkDriver.CreateNetwork', undefined, 'accepted when repeated without its body');
      await kit.ok('NetworkDriver.DeleteNetwork', { NetworkID });
    },
  },
  {
    name: 'no-leave',
    level: 'must',
    rule: 'DeleteEndpoint undoes what Join made; a Leave that comes afterwards finds nothing to do.',
    why: 'After a failed Join, engines up to 28 send DeleteEndpoint alone, later ones Leave as well, possibly twice.',
    run: async (kit) => {
      const { ids, subnet } = await running(kit);
      await kit.ok('NetworkDriver.DeleteEndpoint', { ...ids });
      await kit.outcome('NetworkDriver.Leave', { ...ids });
      await startAndStop(kit, ids, subnet.at(20));
    },
  },
  {
    name: 'daemon-restart',
    level: 'must',
    rule: 'Networks and endpoints outlive dockerd: they are used on without being created again, and stopped under their old ids.',
    why: 'After a restart with live-restore Docker sends Plugin.Activate and GetCapabilities (from 28 on also EndpointOperInfo), never CreateNetwork or CreateEndpoint.',
    run: async (kit) => {
      const { ids, subnet, answered } = await running(kit);
      await daemonReturns(kit);
      await kit.ok('NetworkDriver.EndpointOperInfo', { ...ids });
      await startAndStop(kit, ids, subnet.at(21));
      await stop(kit, ids, answered);
    },
  },
  {
    name: 'daemon-killed',
    level: 'must',
    rule: 'An address of an endpoint that Docker forgot can be used by a new one.',
    why: 'After a SIGKILL Docker sends no Leave or DeleteEndpoint to socket plugins, and starts a container with --ip again under new ids.',
    run: async (kit) => {
      const { ids, subnet } = await running(kit);
      await daemonReturns(kit);
      await startAndStop(kit, ids, subnet.at(20));
    },
  },
  {
    name: 'forgotten-endpoints',
    level: 'must',
    rule: 'DeleteNetwork succeeds though endpoints are left, and takes them along.',
    why: 'After a crash Docker deletes networks whose endpoints it forgot; it only logs an error, and the network would stay forever.',
    run: async (kit) => {
      const { ids } = await running(kit);
      await kit.ok('NetworkDriver.DeleteNetwork', { NetworkID: ids.NetworkID });
    },
  },
  {
    name: 'remove-twice',
    level: 'should',
    rule: 'Revoke…, Leave, DeleteEndpoint and DeleteNetwork succeed when they come again.',
    why: 'Docker repeats them after trouble; an error helps nobody and ends in the log.',
    run: async (kit) => {
      const { ids } = await running(kit);
      for (const { call, body } of removal(ids)) for (let i = 0; i < 2; i++) await kit.ok(call, body);
    },
  },
  {
    name: 'remove-unknown',
    level: 'should',
    rule: 'Revoke…, Leave, DeleteEndpoint and DeleteNetwork succeed for what never was.',
    why: 'Docker sends them for what the plugin has lost, or has never heard of because the first call did not arrive.',
    run: async (kit) => {
      for (const { call, body } of removal(idsOf(kit))) await kit.ok(call, body);
    },
  },
  {
    name: 'use-unknown',
    level: 'must',
    rule: 'CreateEndpoint and Join on a network that is not there are refused.',
    why: 'A plugin that lost its state would start containers that reach nothing.',
    run: async (kit) => {
      const ids = idsOf(kit);
      await kit.refused('NetworkDriver.CreateEndpoint', endpointRequest(ids, kit.newSubnet().at(20)), 'accepted on a network that was never created');
      await kit.refused('NetworkDriver.Join', joinRequest(kit, ids), 'accepted for an endpoint that was never created');
    },
  },
  {
    name: 'refusal',
    level: 'should',
    rule: "An error is a text in 'Err', in words for a user.",
    why: "Docker shows it as it is: 'Error response from daemon: remote: …'. Docker looks for it under no other name.",
    run: async (kit) => {
      const error = await kit.refused('NetworkDriver.CreateEndpoint', endpointRequest(idsOf(kit), kit.newSubnet().at(20)));
      expect(/[a-z]{2}/i.test(error) && !error.startsWith('status '), `the user would be shown: ${error}`);
    },
  },
]);
