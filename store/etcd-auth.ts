/** A token for etcd's own users (etcd.io/docs, "Role-based access control"): asked for once, and again when it ran out. */

export interface Credentials { user: string; password: string }

/** How etcd 3.4 to 3.6 say that a token is of no use any more; nothing was carried out then. */
const STALE = /invalid auth token|revision of auth store is old|user name is empty/;

export const isStaleToken = (message: string): boolean => STALE.test(message);

export interface Authenticator {
  /** Undefined where no user is configured. `authenticate` makes the call. */
  token(authenticate: (body: object) => Promise<Record<string, unknown>>): Promise<string | undefined>;
  /** The next call asks for another one, unless somebody else has done so already. */
  forget(token: string | undefined): void;
}

export function createAuthenticator(credentials: Credentials | undefined): Authenticator {
  let known: string | undefined;
  let asking: Promise<string> | undefined;
  return {
    token: async (authenticate) => {
      if (!credentials || known !== undefined) return known;
      asking ??= authenticate({ name: credentials.user, password: credentials.password })
        .then(({ token }) => (known = String(token)))
        .finally(() => { asking = undefined; });
      return asking;
    },
    forget: (token) => {
      if (known === token) known = undefined;
    },
  };
}
