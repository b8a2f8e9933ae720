/** The control socket's HTTP server: routes, bounds and errors; what the calls do is AgentApi's affair. */
import { rmSync } from 'node:fs';
import http from 'node:http';
import * as v from 'valibot';
import { WeftError, errorText, weftError } from '../base/errors.ts';
import { readJson } from '../base/json-body.ts';
import type { Logger } from '../base/log.ts';
import type { AgentApi, ErrorAnswer } from './api.ts';

const MAX_BODY = 256 * 1024;

const text = v.pipe(v.string(), v.minLength(1), v.maxLength(255));
const texts = v.record(v.string(), v.string());
const Name = v.pipe(text, v.regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, 'letters, digits, "_", "." and "-", starting with a letter or digit'));
/** More subnets than anybody needs, and few enough to be claimed one by one. */
const prefixes = v.pipe(v.array(text), v.minLength(1), v.maxLength(64));
const CreateNetwork = v.strictObject({
  name: Name, driver: text, subnets: v.optional(prefixes), gateways: v.optional(prefixes), ranges: v.optional(prefixes), aux: v.optional(texts),
  ipv4: v.optional(v.boolean()), ipv6: v.optional(v.boolean()), internal: v.optional(v.boolean()), options: v.optional(texts), labels: v.optional(texts),
});
const AddSandbox = v.strictObject({
  name: Name, network: text, netns: v.optional(text), address: v.optional(text), addressIpv6: v.optional(text), aliases: v.optional(v.array(Name)),
  ports: v.optional(v.array(text)), service: v.optional(Name),
});
const Connect = v.strictObject({ name: text, address: v.optional(text), addressIpv6: v.optional(text), aliases: v.optional(v.array(Name)) });
const Disconnect = v.strictObject({ name: text });

/** A name is refused where it is read, with what is wrong with it; texts of records may be longer. */
const value = v.pipe(v.string(), v.maxLength(4_096));
const AddDnsRecord = v.strictObject({ name: value, type: value, value, ttl: v.optional(v.number()), network: v.optional(text) });
const DnsRecord = v.strictObject({ name: value, type: v.optional(value), value: v.optional(value), network: v.optional(text) });

const DnsLookup = v.strictObject({ name: value, type: v.optional(value), from: text });
const DnsLog = v.strictObject({ on: v.boolean(), from: v.optional(text) });

const DnsHost = v.strictObject({ on: v.boolean(), address: v.optional(v.pipe(v.string(), v.ipv4('give an IPv4 address of the loopback, such as 127.0.0.87'))) });

const RemoveNode = v.strictObject({ force: v.optional(v.boolean()) });
const MakeToken = v.strictObject({ rotate: v.optional(v.boolean()) });
const Fix = v.strictObject({ ids: v.array(v.pipe(v.string(), v.maxLength(2_000))) });

function valid<S extends v.GenericSchema>(schema: S, what: string, body: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, body);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw weftError('WEFT-INPUT-MALFORMED', { what, detail: `${v.getDotPath(issue) ?? 'it'}: ${issue.message}` });
}

type Route = (api: AgentApi, reference: string, body: unknown) => Promise<unknown>;

const ROUTES: Record<string, Route> = {
  'GET status': (api) => api.status(),
  'GET ps': (api) => api.ps(),
  'GET backup': (api) => api.backup(),
  'GET networks': (api, reference) => (reference ? api.network(reference) : api.networks()),
  'POST networks': (api, _, body) => api.createNetwork(valid(CreateNetwork, 'the network', body) as Parameters<AgentApi['createNetwork']>[0]),
  'DELETE networks': (api, reference) => api.removeNetwork(reference),
  'POST connections': (api, reference, body) => api.connect(reference, valid(Connect, 'the connection', body) as Parameters<AgentApi['connect']>[1]),
  'DELETE connections': (api, reference, body) => api.disconnect(reference, valid(Disconnect, 'the connection', body).name),
  'GET unused-networks': (api) => api.pruneNetworks(false),
  'DELETE unused-networks': (api) => api.pruneNetworks(true),
  'POST sandboxes': (api, _, body) => api.addSandbox(valid(AddSandbox, 'the sandbox', body) as Parameters<AgentApi['addSandbox']>[0]),
  'GET nodes': (api) => api.nodes(),
  'POST nodes': (api, reference) => api.promoteNode(reference),
  'DELETE nodes': (api, reference, body) => api.removeNode(reference, valid(RemoveNode, 'the removal', body ?? {}).force ?? false),
  'POST reachability': (api, reference) => api.probe(reference || undefined),
  'POST key': (api) => api.rotateKey(),
  'POST token': (api, _, body) => api.token(valid(MakeToken, 'the token', body ?? {}).rotate ?? false),
  'DELETE sandboxes': (api, reference) => api.removeSandbox(reference),
  'GET ipam': (api, reference) => (reference === 'check' ? api.ipamCheck() : api.ipamPools()),
  'POST ipam': (api, _, body) => api.ipamFix(valid(Fix, 'the list of findings', body).ids),
  'GET dns-records': (api) => api.dnsRecords(),
  'POST dns-records': (api, _, body) => api.addDnsRecord(valid(AddDnsRecord, 'the record', body) as Parameters<AgentApi['addDnsRecord']>[0]),
  'DELETE dns-records': (api, _, body) => api.removeDnsRecord(valid(DnsRecord, 'the record', body) as Parameters<AgentApi['removeDnsRecord']>[0]),
  'POST dns-lookups': (api, _, body) => api.dnsLookup(valid(DnsLookup, 'the question', body) as Parameters<AgentApi['dnsLookup']>[0]),
  'GET dns-log': (api) => api.dnsLog(),
  'POST dns-log': (api, _, body) => api.setDnsLog(valid(DnsLog, 'the switch', body) as Parameters<AgentApi['setDnsLog']>[0]),
  'GET dns-host': (api) => api.dnsHost(),
  'POST dns-host': (api, _, body) => api.setDnsHost(valid(DnsHost, 'the switch', body) as Parameters<AgentApi['setDnsHost']>[0]),
  'GET node-blocks': (api, reference) => api.planReclaim(reference),
  'DELETE node-blocks': (api, reference) => api.reclaim(reference),
};

export interface ControlServer { close(): Promise<void> }

/** Serves at a socket file made here (0600), or at an inherited one. */
export async function serveControl(at: { path: string } | { fd: number }, api: AgentApi, log: Logger): Promise<ControlServer> {
  const server = http.createServer({ requireHostHeader: false }, (request, response) => {
    void answer(request, api).then(({ status, body }) => {
      if (status >= 500) log.error({ url: request.url, body }, 'a control call failed');
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
  });
  if ('path' in at) rmSync(at.path, { force: true });
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(at, resolve));
  } finally {
    process.umask(mask);
  }
  return {
    close: () => new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    }),
  };
}

async function answer(request: http.IncomingMessage, api: AgentApi): Promise<{ status: number; body: unknown }> {
  try {
    const [, version, collection = '', reference = ''] = (request.url ?? '').split('/');
    const route = version === 'v1' ? ROUTES[`${request.method} ${collection}`] : undefined;
    if (!route) throw weftError('WEFT-CALL-UNKNOWN', { call: `${request.method} ${request.url}` });
    return { status: 200, body: (await route(api, decodeURIComponent(reference), await readJson(request, MAX_BODY))) ?? {} };
  } catch (error) {
    const body: ErrorAnswer = { message: errorText(error), ...(error instanceof WeftError && { code: error.code }) };
    return { status: error instanceof WeftError ? 400 : 500, body };
  }
}
