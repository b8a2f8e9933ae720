/** The part of hyperdht 6 that is used; it comes without declarations. */
declare module 'hyperdht' {
  import type { EventEmitter } from 'node:events';
  import type { Duplex } from 'node:stream';

  export interface KeyPair { publicKey: Buffer; secretKey: Buffer }
  export interface NodeOptions {
    /** Addresses of nodes to begin with. Left out, it would be public ones. */
    bootstrap: { host: string; port: number }[];
    host?: string;
    port?: number;
    /** false: fails when the port is taken, instead of taking another. */
    anyPort?: boolean;
    /** false: it takes part for others from the start, unless it finds itself behind NAT. */
    ephemeral?: boolean;
    /** Left out, it finds out by asking others. */
    firewalled?: boolean | undefined;
  }
  export type Query = AsyncIterable<{ peers: { publicKey: Buffer }[] }>;
  export interface Server extends EventEmitter {
    listen(keyPair: KeyPair): Promise<void>;
    /** Says anew where it is reached. */
    refresh(): void;
  }
  export default class DHT {
    constructor(options: NodeOptions);
    static bootstrapper(port: number, host: string, options?: Partial<NodeOptions>): DHT;
    static keyPair(seed?: Buffer): KeyPair;
    /** When it has asked the others it begins with, also in vain. */
    ready(): Promise<void>;
    readonly firewalled: boolean;
    /** Where others see it; null while none has answered. */
    readonly host: string | null;
    createServer(onConnection: (stream: Duplex) => void): Server;
    connect(publicKey: Buffer): Duplex;
    /** Also yields who announced the same topic. */
    announce(topic: Buffer, keyPair: KeyPair): Query;
    unannounce(topic: Buffer, keyPair: KeyPair): Promise<void>;
    destroy(options?: { force?: boolean }): Promise<void>;
  }
}
