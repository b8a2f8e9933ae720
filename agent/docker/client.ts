/**
 * A thin client of the Docker Engine API on its unix socket: only the calls the agent makes, with Docker's own field
 * names. Errors are WEFT-DOCKER with Docker's message and its HTTP status.
 */
import http from 'node:http';
import { WeftError, errorText, weftError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';

/** Engine 20.10. */
const OLDEST_API = [1, 41] as const;
/** Engine 28.5, the newest whose answers were looked at; a later engine is asked in this version. */
const NEWEST_API = [1, 51] as const;
const MAX_ANSWER = 32 * 1024 * 1024;
const QUICK_MS = 10_000;
/** Creating and removing come back to us as plugin calls, each with a deadline of its own. */
const NETWORK_MS = 30_000;
/** Docker answers for a container only when its start or stop is over. */
const CONTAINER_MS = 60_000;

/** What Docker leaves out or sends as null depends on its version; only what is not optional is always there. */
export interface DockerNetwork {
  Id: string;
  Name: string;
  Driver: string;
  Scope: string;
  Internal?: boolean;
  Attachable?: boolean;
  Labels?: Record<string, string> | null;
  Options?: Record<string, string> | null;
  IPAM: { Driver: string; Options?: Record<string, string> | null; Config?: DockerPool[] | null };
  /** In the inspection only: by container id, or `ep-` and the endpoint's id while the container starts. */
  Containers?: Record<string, DockerNetworkMember> | null;
}

export interface DockerPool { Subnet?: string; Gateway?: string; IPRange?: string; AuxiliaryAddresses?: Record<string, string> | null }
export interface DockerNetworkMember { Name: string; EndpointID: string; MacAddress: string; IPv4Address: string; IPv6Address: string }

/** What a connection may ask for. */
export interface DockerEndpointWishes { IPAMConfig?: { IPv4Address?: string }; Aliases?: string[] }

export interface DockerContainer {
  Id: string;
  /** With a leading slash. */
  Names: string[];
  State: string;
  Labels?: Record<string, string> | null;
  NetworkSettings?: { Networks: Record<string, DockerAttachment> | null } | null;
}

export interface DockerAttachment {
  NetworkID: string;
  /** '' while the container does not run. */
  EndpointID: string;
  IPAddress: string;
  MacAddress: string;
  Aliases?: string[] | null;
  /** From engine 25 on. */
  DNSNames?: string[] | null;
}

export interface ContainerInspect {
  Id: string;
  /** With a leading slash. */
  Name: string;
  /** ExposedPorts: by '80/tcp'; what is published is among them. */
  Config: { Hostname: string; Labels?: Record<string, string> | null; ExposedPorts?: Record<string, unknown> | null };
  /** Health: of containers that have a check. Its status is 'starting', 'healthy' or 'unhealthy'. */
  State: { Running: boolean; Status: string; ExitCode: number; Error: string; Health?: { Status: string } | null };
  HostConfig: { RestartPolicy: { Name: string } };
  NetworkSettings: { SandboxKey: string; Networks: Record<string, DockerAttachment> };
}

export interface DockerInfo {
  ID: string;
  Name: string;
  ServerVersion: string;
  LiveRestoreEnabled: boolean;
  /** From engine 28 on. */
  FirewallBackend?: { Driver: string } | null;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** Until the whole answer is there. Default 10 s; 30 s for changes to networks, 60 s for what waits for a container. */
  timeoutMs?: number;
}

export interface DockerClient {
  /** Also finds out anew which API version to speak. Throws when the engine is older than 20.10. */
  ping(options?: CallOptions): Promise<{ apiVersion: string }>;
  info(options?: CallOptions): Promise<DockerInfo>;
  networks(filters?: Record<string, string[]>, options?: CallOptions): Promise<DockerNetwork[]>;
  network(id: string, options?: CallOptions): Promise<DockerNetwork>;
  /** `body` as for POST /networks/create; gives the id. */
  createNetwork(body: Record<string, unknown>, options?: CallOptions): Promise<string>;
  removeNetwork(id: string, options?: CallOptions): Promise<void>;
  /** A container that does not run is connected at its next start. */
  connect(networkId: string, containerId: string, wishes?: DockerEndpointWishes, options?: CallOptions): Promise<void>;
  /** Forced: also where its driver does not answer. */
  disconnect(networkId: string, containerId: string, options?: CallOptions): Promise<void>;
  /** `all`: those that do not run, too. `name`: the one of that name alone. */
  containers(filter: { all: boolean; name?: string }, options?: CallOptions): Promise<DockerContainer[]>;
  /** Blocks until a start or stop of that container is over: never to be awaited in a plugin call. */
  container(id: string, options?: CallOptions): Promise<ContainerInspect>;
  startContainer(id: string, options?: CallOptions): Promise<void>;
  /** The stream of events as JSON lines, once Docker has begun it. */
  events(filters: Record<string, string[]>, signal: AbortSignal): Promise<http.IncomingMessage>;
  close(): void;
}

/** A WEFT-DOCKER error's HTTP status; undefined when Docker gave no answer, and for other errors. */
export const dockerStatus = (error: unknown): number | undefined =>
  (error instanceof WeftError && error.code === 'WEFT-DOCKER' && 'status' in error ? error.status as number : undefined);

export interface DockerClientOptions { socketPath?: string; log: Logger }

export function createDockerClient({ socketPath = '/var/run/docker.sock', log }: DockerClientOptions): DockerClient {
  const agent = new http.Agent({ keepAlive: true, maxFreeSockets: 4 });
  let apiVersion: string | undefined;

  async function ping(options?: CallOptions): Promise<{ apiVersion: string }> {
    const { response } = await call({ what: 'to answer', method: 'GET', path: '/_ping', timeoutMs: QUICK_MS, ...options });
    const offered = String(response.headers['api-version'] ?? '');
    const chosen = chooseVersion(offered);
    if (chosen === undefined) throw weftError('WEFT-DOCKER', { what: 'to answer', detail: `API version ${offered || 'unknown'} is older than ${OLDEST_API.join('.')}` });
    if (chosen !== apiVersion) log.debug({ offered, apiVersion: chosen }, 'Docker API version');
    apiVersion = chosen;
    return { apiVersion: chosen };
  }

  async function versioned<T>(request: Omit<Request, 'path'> & { path: string }, options?: CallOptions): Promise<T> {
    const version = apiVersion ?? (await ping(options)).apiVersion;
    const { text } = await call({ ...request, path: `/v${version}${request.path}`, ...options });
    return parse<T>(text, request.what);
  }

  const call = async (request: Request): Promise<{ response: http.IncomingMessage; text: string }> => {
    const signal = AbortSignal.any([AbortSignal.timeout(request.timeoutMs), ...(request.signal ? [request.signal] : [])]);
    const response = await send(request, { socketPath, agent, signal });
    const text = await readAll(response, request.what);
    refuseErrors(response, text, request.what);
    return { response, text };
  };

  return {
    ping,
    info: (options) => versioned({ what: 'to describe itself', method: 'GET', path: '/info', timeoutMs: QUICK_MS }, options),
    networks: (filters, options) => versioned({ what: 'to list networks', method: 'GET', path: `/networks${filters ? `?${query({ filters: JSON.stringify(filters) })}` : ''}`, timeoutMs: QUICK_MS }, options),
    network: (id, options) => versioned({ what: `to describe network ${short(id)}`, method: 'GET', path: `/networks/${encodeURIComponent(id)}`, timeoutMs: QUICK_MS }, options),
    createNetwork: async (body, options) => {
      const { Id } = await versioned<{ Id: string }>({ what: `to create network ${String(body['Name'] ?? '')}`, method: 'POST', path: '/networks/create', body, timeoutMs: NETWORK_MS }, options);
      return Id;
    },
    removeNetwork: (id, options) => versioned({ what: `to remove network ${short(id)}`, method: 'DELETE', path: `/networks/${encodeURIComponent(id)}`, timeoutMs: NETWORK_MS }, options),
    connect: (networkId, containerId, wishes, options) => versioned({ what: `to connect container ${short(containerId)}`, method: 'POST', path: `/networks/${encodeURIComponent(networkId)}/connect`, body: { Container: containerId, ...(wishes && { EndpointConfig: wishes }) }, timeoutMs: CONTAINER_MS }, options),
    disconnect: (networkId, containerId, options) => versioned({ what: `to disconnect container ${short(containerId)}`, method: 'POST', path: `/networks/${encodeURIComponent(networkId)}/disconnect`, body: { Container: containerId, Force: true }, timeoutMs: CONTAINER_MS }, options),
    containers: ({ all, name }, options) => {
      const filter = { all: all ? '1' : '0', ...(name !== undefined && { filters: JSON.stringify({ name: [exactly(name)] }) }) };
      return versioned({ what: 'to list containers', method: 'GET', path: `/containers/json?${query(filter)}`, timeoutMs: QUICK_MS }, options);
    },
    container: (id, options) => versioned({ what: `to describe container ${short(id)}`, method: 'GET', path: `/containers/${encodeURIComponent(id)}/json`, timeoutMs: CONTAINER_MS }, options),
    startContainer: (id, options) => versioned({ what: `to start container ${short(id)}`, method: 'POST', path: `/containers/${encodeURIComponent(id)}/start`, timeoutMs: CONTAINER_MS }, options),
    events: async (filters, signal) => {
      const what = 'to report events';
      const version = apiVersion ?? (await ping({ signal })).apiVersion;
      // A connection of its own: this answer has no end.
      const response = await send({ what, method: 'GET', path: `/v${version}/events?${query({ filters: JSON.stringify(filters) })}` }, { socketPath, agent: false, signal });
      if (response.statusCode !== 200) refuseErrors(response, await readAll(response, what), what);
      return response;
    },
    close: () => agent.destroy(),
  };
}

interface Request { what: string; method: string; path: string; body?: Record<string, unknown>; timeoutMs: number; signal?: AbortSignal }
interface Connection { socketPath: string; agent: http.Agent | false; signal: AbortSignal }

const short = (id: string): string => (/^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id);
const query = (parameters: Record<string, string>): string => new URLSearchParams(parameters).toString();
/** Docker takes names for regular expressions, with and without their slash. */
const exactly = (name: string): string => `^/?${name.replaceAll(".", String.raw`\.`)}$`;

/** The newest version both sides know; undefined when Docker's is too old. Minor numbers are not decimals: 1.9 < 1.41. */
function chooseVersion(offered: string): string | undefined {
  const [major = 0, minor = 0] = offered.split('.').map(Number);
  if (major !== OLDEST_API[0]) return major > OLDEST_API[0] ? NEWEST_API.join('.') : undefined;
  return minor >= OLDEST_API[1] ? `${major}.${Math.min(minor, NEWEST_API[1])}` : undefined;
}

/** Resolves when the answer's head is there. */
function send({ what, method, path, body }: Omit<Request, 'timeoutMs'>, { socketPath, agent, signal }: Connection): Promise<http.IncomingMessage> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const headers = { Host: 'docker', ...(payload !== undefined && { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }) };
  return new Promise((resolve, reject) => {
    http.request({ socketPath, agent, signal, method, path, headers }, resolve).on('error', (error) => reject(noAnswer(error, what))).end(payload);
  });
}

async function readAll(response: http.IncomingMessage, what: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_ANSWER) throw new Error(`the answer is longer than ${MAX_ANSWER} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw noAnswer(error, what);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parse<T>(text: string, what: string): T {
  try {
    return (text === '' ? undefined : JSON.parse(text)) as T;
  } catch (error) {
    throw weftError('WEFT-DOCKER', { what, detail: `its answer is not JSON: ${errorText(error)}` });
  }
}

/** 304 is Docker's answer for a container that runs already. */
function refuseErrors(response: http.IncomingMessage, text: string, what: string): void {
  const status = response.statusCode ?? 0;
  if ((status >= 200 && status < 300) || status === 304) return;
  throw Object.assign(weftError('WEFT-DOCKER', { what, detail: messageOf(text) || `status ${status}` }), { status });
}

function messageOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    if (typeof message === 'string') return message.trim();
  } catch {
    // Not JSON: whatever stands between us and Docker speaks for itself.
  }
  return text.trim().slice(0, 500);
}

function noAnswer(error: unknown, what: string): Error {
  const { cause } = error as { cause?: unknown };
  const timeout = [error, cause].some((each) => each instanceof Error && each.name === 'TimeoutError');
  return weftError('WEFT-DOCKER', { what, detail: timeout ? 'no answer in time' : errorText(error) }, { cause: error });
}
