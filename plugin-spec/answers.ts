/** What Docker makes of an answer: which are successes, which errors, and which it would choke on. */
import { isIP } from 'node:net';
import * as v from 'valibot';
import type { PluginAnswer } from './plugin-client.ts';
import { Cidr, StringMap } from './wire.ts';

const Name = v.pipe(v.string(), v.minLength(1));
const Ip = v.pipe(v.string(), v.check((value) => isIP(value) !== 0, 'Invalid address'));
const Mac = v.pipe(v.string(), v.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i));
const Scope = v.picklist(['local', 'global']);
const Empty = v.object({});

const Route = v.variant('RouteType', [
  v.object({ RouteType: v.literal(0), Destination: Cidr, NextHop: Ip }),
  v.object({ RouteType: v.literal(1), Destination: Cidr }),
]);

/** Calls that are not here are answered with any object. */
const ANSWERS: Record<string, v.GenericSchema> = {
  'Plugin.Activate': v.object({ Implements: v.pipe(v.array(v.picklist(['NetworkDriver', 'IpamDriver'])), v.minLength(1)) }),
  'NetworkDriver.GetCapabilities': v.object({ Scope, ConnectivityScope: v.optional(Scope), GwAllocChecker: v.optional(v.boolean()) }),
  'NetworkDriver.GwAllocCheck': v.object({ SkipIPv4: v.optional(v.boolean()), SkipIPv6: v.optional(v.boolean()) }),
  'NetworkDriver.AllocateNetwork': v.object({ Options: StringMap }),
  'NetworkDriver.CreateEndpoint': v.object({
    Interface: v.optional(v.object({ Address: v.optional(Cidr), AddressIPv6: v.optional(Cidr), MacAddress: v.optional(Mac) })),
  }),
  'NetworkDriver.EndpointOperInfo': v.object({ Value: v.object({}) }),
  'NetworkDriver.Join': v.object({
    InterfaceName: v.object({ SrcName: Name, DstPrefix: Name }),
    Gateway: v.optional(Ip),
    GatewayIPv6: v.optional(Ip),
    StaticRoutes: v.optional(v.array(Route)),
    DisableGatewayService: v.optional(v.boolean()),
  }),
  'IpamDriver.GetCapabilities': v.object({ RequiresMACAddress: v.boolean(), RequiresRequestReplay: v.boolean() }),
  'IpamDriver.GetDefaultAddressSpaces': v.object({ LocalDefaultAddressSpace: Name, GlobalDefaultAddressSpace: Name }),
  'IpamDriver.RequestPool': v.object({ PoolID: Name, Pool: Cidr, Data: v.optional(StringMap) }),
  'IpamDriver.RequestAddress': v.object({ Address: Cidr, Data: v.optional(StringMap) }),
};

/** An answer as Docker reads it: a value, or the error the user is shown. */
export type Outcome = { value: Record<string, unknown>; error?: undefined } | { error: string; value?: undefined };

/** Throws, with the reason, when Docker could not use the answer. */
export function readAnswer(call: string, { status, text }: PluginAnswer): Outcome {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`the answer is not an object: ${text.slice(0, 80)}`);
  const error: unknown = (value as Record<string, unknown>)[status === 200 && call.startsWith('IpamDriver.') ? 'Error' : 'Err'];
  if (error !== undefined && typeof error !== 'string') throw new Error('the error is not a string');
  if (error) return { error };
  if (status !== 200) throw new Error(`status ${status} without an error`);
  const result = v.safeParse(ANSWERS[call] ?? Empty, value);
  if (result.success) return { value: value as Record<string, unknown> };
  throw new Error(result.issues.map((issue) => `${v.getDotPath(issue) ?? 'answer'}: ${issue.message}`).join('; '));
}
