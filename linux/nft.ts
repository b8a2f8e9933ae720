/**
 * nftables structure through libnftables in this process (0.1–0.5 ms a transaction; spawning nft costs 20 ms and more).
 * The context keeps its socket in the namespace it was made in, and reads the tables a command speaks of again whenever
 * anybody has changed anything: elements that change often go through nft-elements.ts instead.
 *
 * Of the language (nftables 1.0.6): `}` must not follow a statement or another `}` on one line, a newline or `;` comes
 * between; and a dynamic set whose key has more than four fields ends the process (an assertion in the library).
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { errnoName, sys } from './ffi.ts';
import { NETLINK_NETFILTER, openNetlink, type NetlinkSocket } from './netlink-socket.ts';
import { askGeneration } from './nft-generation.ts';
import { KernelError, type Netns, type Nft, type NftJson } from './types.ts';

const library = koffi.load('libnftables.so.1');
const NFT_CTX_OUTPUT_JSON = 1 << 4;

const nftables = {
  create: library.func('void *nft_ctx_new(uint flags)'),
  free: library.func('void nft_ctx_free(void *context)'),
  run: library.func('int nft_run_cmd_from_buffer(void *context, const char *text)'),
  bufferOutput: library.func('int nft_ctx_buffer_output(void *context)'),
  bufferError: library.func('int nft_ctx_buffer_error(void *context)'),
  output: library.func('const char *nft_ctx_get_output_buffer(void *context)'),
  error: library.func('const char *nft_ctx_get_error_buffer(void *context)'),
  setOutputFlags: library.func('void nft_ctx_output_set_flags(void *context, uint flags)'),
} as const;

/** A signal that comes meanwhile, a child's end for one, ends a transaction, of which nothing is kept (nfnetlink_rcv_batch). */
const ATTEMPTS = 5;

interface Outcome { failed: boolean; output: string; error: string }

export function openNft(netns: Netns): Nft {
  let context: unknown = netns.run(() => nftables.create(0));
  if (!context) throw new KernelError('open nftables', 'ENOMEM');
  nftables.bufferOutput(context);
  nftables.bufferError(context);

  let socket: NetlinkSocket | undefined;

  /** Inside the namespace all the same: the library asks for the indexes of interfaces as it goes (`iif`). */
  const attempt = (text: string, flags: number): Outcome => netns.run(() => {
    if (!context) throw new KernelError('use nftables', 'EBADF', 'it was closed');
    nftables.setOutputFlags(context, flags);
    const failed = nftables.run(context, text) !== 0;
    return { failed, output: nftables.output(context) as string, error: nftables.error(context) as string };
  });

  function execute(text: string, flags: number): Outcome {
    for (let left = ATTEMPTS; ; left--) {
      const outcome = attempt(text, flags);
      if (!outcome.failed || left === 1 || codeOf(outcome.error) !== 'EINTR') return outcome;
    }
  }

  return {
    run: (script) => {
      const { failed, error } = execute(script, 0);
      if (failed) throw new KernelError('apply nftables rules', codeOf(error), error.trim());
    },
    query: (command) => {
      const { failed, output, error } = execute(command, NFT_CTX_OUTPUT_JSON);
      if (!failed) return (JSON.parse(output || '{"nftables":[]}') as { nftables: NftJson[] }).nftables;
      if (codeOf(error) === 'ENOENT') return undefined;
      throw new KernelError(`read nftables (${command})`, codeOf(error), error.trim());
    },
    generation: () => askGeneration(socket ??= openNetlink(netns, NETLINK_NETFILTER)).id,
    close: () => {
      socket?.close();
      if (context) nftables.free(context);
      context = undefined;
    },
  };
}

/** strerror's sentences. */
const codes = new Map(Object.values(constants.errno).map((number) => [sys.strerror(number) as string, errnoName(number)]));

/** The library gives errors as text only; one that is not the kernel's is of the language, and then the script is at fault. */
function codeOf(error: string): string {
  const sentence = /Error: (?:.*: )?([^;\n]*)/.exec(error)?.[1];
  return codes.get(sentence ?? '') ?? 'EINVAL';
}
