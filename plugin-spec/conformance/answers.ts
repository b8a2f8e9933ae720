/**
 * What Docker makes of an answer: which are successes, which errors, and which it would choke on. As tolerant as Go's
 * decoder is: names in any case, null and '' for what is absent, unknown members.
 */
import { isIP } from 'node:net';
import * as v from 'valibot';
import type { PluginAnswer } from '../plugin-client.ts';
import { isCidr } from '../wire.ts';

const text = (is: (value: string) => boolean, expected: string) => v.pipe(v.string(`expected ${expected}`), v.check(is, `expected ${expected}`));
/** What Go decodes to its zero value when it is null or missing. */
const maybe = (is: (value: string) => boolean, expected: string) => v.nullish(text((value) => value === '' || is(value), `${expected}, or nothing`), '');
const isScope = (value: string): boolean => value === 'local' || value === 'global';
const isIp = (value: string): boolean => isIP(value) !== 0;
const isMac = (value: string): boolean => /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value);

const Name = text((value) => value !== '', 'a name');
const Flag = v.nullish(v.boolean(), false);
const Strings = v.nullish(v.record(v.string(), v.string()), {});
const Empty = v.object({});

const Route = v.variant('RouteType', [
  v.object({ RouteType: v.literal(0), Destination: text(isCidr, 'address/length'), NextHop: text(isIp, 'an address') }),
  v.object({ RouteType: v.literal(1), Destination: text(isCidr, 'address/length') }),
]);

const isImplements = (value: string): boolean => value === 'NetworkDriver' || value === 'IpamDriver';

/** Calls that are not here are answered with any object. */
const ANSWERS: Record<string, v.GenericSchema> = {
  'Plugin.Activate': v.object({ Implements: v.pipe(v.array(v.string()), v.check((list) => list.some(isImplements), 'expected NetworkDriver or IpamDriver')) }),
  'NetworkDriver.GetCapabilities': v.object({ Scope: text(isScope, "'local' or 'global'"), ConnectivityScope: maybe(isScope, "'local' or 'global'"), GwAllocChecker: Flag }),
  'NetworkDriver.GwAllocCheck': v.object({ SkipIPv4: Flag, SkipIPv6: Flag }),
  'NetworkDriver.AllocateNetwork': v.object({ Options: Strings }),
  'NetworkDriver.CreateEndpoint': v.object({
    Interface: v.nullish(v.object({ Address: maybe(isCidr, 'address/length'), AddressIPv6: maybe(isCidr, 'address/length'), MacAddress: maybe(isMac, 'a MAC address') })),
  }),
  'NetworkDriver.EndpointOperInfo': v.object({ Value: v.nullish(v.record(v.string(), v.unknown()), {}) }),
  'NetworkDriver.Join': v.object({
    InterfaceName: v.object({ SrcName: Name, DstPrefix: Name }),
    Gateway: maybe(isIp, 'a plain address'),
    GatewayIPv6: maybe(isIp, 'a plain address'),
    StaticRoutes: v.nullish(v.array(Route), []),
    DisableGatewayService: Flag,
  }),
  'IpamDriver.GetCapabilities': v.object({ RequiresMACAddress: Flag, RequiresRequestReplay: Flag }),
  'IpamDriver.GetDefaultAddressSpaces': v.object({ LocalDefaultAddressSpace: Name, GlobalDefaultAddressSpace: Name }),
  'IpamDriver.RequestPool': v.object({ PoolID: Name, Pool: text(isCidr, 'address/length'), Data: Strings }),
  'IpamDriver.RequestAddress': v.object({ Address: text(isCidr, 'address/length (Docker stops at an empty one)'), Data: Strings }),
};

/** Every member of every answer, by its name in lower case. */
const NAMES = new Map([
  'Err', 'Error', 'Implements', 'Scope', 'ConnectivityScope', 'GwAllocChecker', 'SkipIPv4', 'SkipIPv6', 'Options', 'Interface', 'Address', 'AddressIPv6',
  'MacAddress', 'Value', 'InterfaceName', 'SrcName', 'DstPrefix', 'Gateway', 'GatewayIPv6', 'StaticRoutes', 'Destination', 'RouteType', 'NextHop',
  'DisableGatewayService', 'RequiresMACAddress', 'RequiresRequestReplay', 'LocalDefaultAddressSpace', 'GlobalDefaultAddressSpace', 'PoolID', 'Pool', 'Data',
].map((name) => [name.toLowerCase(), name]));

/** The users' own maps, whose keys are not names of the protocol. */
const FREE = new Set(['Options', 'Value', 'Data']);

function withNames(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withNames);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => {
    const name = NAMES.get(key.toLowerCase()) ?? key;
    return [name, FREE.has(name) ? member : withNames(member)];
  }));
}

/** An answer as Docker reads it: a value, or the error the user is shown. */
export type Outcome = { value: Record<string, unknown>; error?: undefined } | { error: string; value?: undefined };

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** Throws, with the reason, when Docker could not use the answer. */
export function readAnswer(call: string, { status, text: body }: PluginAnswer): Outcome {
  if (status === 200 && body.trim() === '') throw new Error('the answer is empty, which Docker takes for a broken connection; send {} at least');
  const answer = withNames(parse(body));
  const object = typeof answer === 'object' && answer !== null && !Array.isArray(answer) ? answer as Record<string, unknown> : undefined;
  if (status !== 200) return { error: typeof object?.['Err'] === 'string' && object['Err'] !== '' ? object['Err'] : `status ${status}: ${body.trim()}` };
  if (!object) throw new Error(`the answer is not a JSON object: ${body.slice(0, 80)}`);
  const key = call.startsWith('IpamDriver.') ? 'Error' : 'Err';
  const error = object[key] ?? '';
  if (typeof error !== 'string') throw new Error(`${key} is not a string`);
  if (error !== '') return { error };
  const wrongKey = key === 'Err' ? 'Error' : 'Err';
  if (object[wrongKey]) throw new Error(`an error in '${wrongKey}' with status 200 is none to Docker: it reads '${key}' here`);
  const result = v.safeParse(ANSWERS[call] ?? Empty, object);
  if (result.success) return { value: object };
  throw new Error(result.issues.map((issue) => `${v.getDotPath(issue) ?? 'answer'}: ${issue.message}`).join('; '));
}
