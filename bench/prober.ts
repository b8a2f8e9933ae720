/**
 * Runs in a container's network namespace: asks the resolver for a name every 2 ms, and from the first answer on tries to
 * reach the address (a refused connection is an answer of its owner). Argument: the name. Prints `ready`, then one JSON line.
 */
import dgram from 'node:dgram';
import net from 'node:net';
import dnsPacket from 'dns-packet';

/** Times are of CLOCK_MONOTONIC, in ms: the same in all processes of a machine. */
export interface Probe {
  resolved: number;
  reached: number;
  /** The very first packet to the address was answered. */
  firstAnswered: boolean;
}

const [name = ''] = process.argv.slice(2);
const RESOLVER = '127.0.0.11';
const ASK_EVERY_MS = 2;
const TRY_EVERY_MS = 5;
/** A lost SYN is sent again after 1 s; an answer that takes longer than this is the answer to another packet. */
const FIRST_MS = 500;
const CLOSED_PORT = 9;

const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const query = dnsPacket.encode({ type: 'query', id: 1, flags: dnsPacket.RECURSION_DESIRED, questions: [{ type: 'A', name }] });
const socket = dgram.createSocket('udp4');
let probe: Probe | undefined;

function reach(address: string, resolved: number): void {
  const attempt = (first: boolean): void => {
    const started = now();
    net.connect({ host: address, port: CLOSED_PORT }).on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code !== 'ECONNREFUSED' || probe) return;
      const reached = now();
      probe = { resolved, reached, firstAnswered: first && reached - started < FIRST_MS };
      console.log(JSON.stringify(probe));
      process.exit(0);
    });
  };
  attempt(true);
  setInterval(() => attempt(false), TRY_EVERY_MS);
}

const asking = setInterval(() => socket.send(query), ASK_EVERY_MS);
socket.on('message', (message) => {
  const answer = dnsPacket.decode(message).answers?.find((each): each is dnsPacket.StringAnswer => each.type === 'A');
  if (!answer) return;
  const resolved = now();
  clearInterval(asking);
  socket.close();
  reach(answer.data, resolved);
});
socket.connect(53, RESOLVER, () => console.log('ready'));
