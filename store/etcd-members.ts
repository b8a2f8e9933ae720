/**
 * Who holds a copy of the store. A newcomer is a learner first: it receives everything and has no vote, so that a slow or
 * mistaken one cannot stop the others (etcd.io/docs, "Learner"). etcd 3.4 takes one learner at a time.
 */
import { weftError } from '../base/errors.ts';
import { GRPC } from './etcd-gateway.ts';
import { GatewayError } from './etcd-http.ts';

export interface Member {
  /** etcd's own, decimal. */
  id: string;
  /** The node's; empty until it has started for the first time. */
  name: string;
  peerUrl: string;
  /** Absent until it has started. */
  clientUrl?: string;
  isLearner: boolean;
}

/** All reject with WEFT-STORE-UNREACHABLE, which includes that there is no majority; changes with WEFT-STORE-QUORUM besides. */
export interface Members {
  list(): Promise<Member[]>;
  /**
   * Enters a node whose folder holds no member, as a learner; with what has to be known for its first start. Idempotent. A
   * member of the same name or address is removed before: its log is lost, and it must not vote without. Rejects with
   * WEFT-STORE-MEMBER-BUSY.
   */
  enter(newcomer: { name: string; peerUrl: string }): Promise<{ name: string; peerUrl: string }[]>;
  /** Gives a learner its vote. Idempotent. Rejects with WEFT-STORE-MEMBER-BEHIND until it has caught up. */
  promote(name: string): Promise<void>;
  /** Takes a node off the members, dead or alive. Idempotent; the last voter cannot be removed. */
  remove(name: string): Promise<void>;
  /** A node's address has changed. */
  move(name: string, peerUrl: string): Promise<void>;
}

interface WireMember { ID?: string; name?: string; peerURLs?: string[]; clientURLs?: string[]; isLearner?: boolean }

type Call = (path: string, body: object, options: { safe: boolean; expected?: readonly number[] }) => Promise<Record<string, unknown>>;

const fromWire = ({ ID = '', name = '', peerURLs = [], clientURLs = [], isLearner = false }: WireMember): Member =>
  ({ id: ID, name, peerUrl: peerURLs[0] ?? '', ...(clientURLs[0] !== undefined && { clientUrl: clientURLs[0] }), isLearner });

export function createMembers(call: Call): Members {
  async function list(): Promise<Member[]> {
    const { members = [] } = await call('/v3/cluster/member/list', {}, { safe: true }) as { members?: WireMember[] };
    return members.map(fromWire);
  }

  async function change(action: 'add' | 'promote' | 'remove' | 'update', body: object): Promise<Record<string, unknown>> {
    try {
      return await call(`/v3/cluster/member/${action}`, body, { safe: false, expected: [GRPC.failedPrecondition, GRPC.notFound] });
    } catch (error) {
      const refusal = error instanceof GatewayError ? error : error instanceof Error && error.cause instanceof GatewayError ? error.cause : undefined;
      if (!refusal) throw error;
      const { message } = refusal;
      if (/too many learner/.test(message)) throw weftError('WEFT-STORE-MEMBER-BUSY', {}, { cause: error });
      if (/in sync with leader/.test(message)) throw weftError('WEFT-STORE-MEMBER-BEHIND', {}, { cause: error });
      // etcd wants them to have been connected for 5 s (etcdserver.HealthInterval).
      if (/unhealthy cluster/.test(message)) throw weftError('WEFT-STORE-QUORUM', { detail: 'a member is away, or has been back for less than 5 s' }, { cause: error });
      if (error === refusal) throw weftError('WEFT-STORE-QUORUM', { detail: message }, { cause: error });
      throw error;
    }
  }

  async function removeMember({ id, isLearner }: Member, all: readonly Member[]): Promise<void> {
    if (!isLearner && all.filter((member) => !member.isLearner).length === 1) {
      throw weftError('WEFT-STORE-QUORUM', { detail: 'it is the only member with a vote' });
    }
    await change('remove', { ID: id });
  }

  return {
    list,
    enter: async ({ name, peerUrl }) => {
      const all = await list();
      const entered = all.find((member) => member.name === '' && member.peerUrl === peerUrl);
      const lost = all.filter((member) => member !== entered && (member.name === name || member.peerUrl === peerUrl));
      for (const member of lost) await removeMember(member, all);
      if (!entered) await change('add', { peerURLs: [peerUrl], isLearner: true });
      return (await list()).map((member) => (member.peerUrl === peerUrl ? { name, peerUrl } : { name: member.name, peerUrl: member.peerUrl }));
    },
    promote: async (name) => {
      const member = (await list()).find((each) => each.name === name);
      if (!member) throw weftError('WEFT-STORE-MEMBER-BEHIND', {});
      if (member.isLearner) await change('promote', { ID: member.id });
    },
    remove: async (name) => {
      const all = await list();
      const member = all.find((each) => each.name === name);
      if (member) await removeMember(member, all);
    },
    move: async (name, peerUrl) => {
      const member = (await list()).find((each) => each.name === name);
      if (member && member.peerUrl !== peerUrl) await change('update', { ID: member.id, peerURLs: [peerUrl] });
    },
  };
}
