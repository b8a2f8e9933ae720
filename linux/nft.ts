/**
 * nftables structure through libnftables in this process (1.3–1.8 ms a transaction; spawning nft costs 20 ms and more).
 * The context keeps its socket in the namespace it was made in. libnftables reads the ruleset again for every
 * transaction, so elements that change often go through linux/nft-elements.ts instead.
 *
 * Known to end the process (an assertion in the library): a map whose key is computed from more than four fields.
 */
import koffi from 'koffi';
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

export function openNft(netns: Netns): Nft {
  let context: unknown = netns.run(() => nftables.create(0));
  if (!context) throw new KernelError('open nftables', 'ENOMEM');
  nftables.bufferOutput(context);
  nftables.bufferError(context);

  /** Inside the namespace all the same: the library looks interfaces and protocols up as it goes. */
  const execute = (text: string, flags: number): { failed: boolean; output: string; error: string } => netns.run(() => {
    if (!context) throw new KernelError('use nftables', 'EBADF', 'it was closed');
    nftables.setOutputFlags(context, flags);
    const failed = nftables.run(context, text) !== 0;
    return { failed, output: nftables.output(context) as string, error: nftables.error(context) as string };
  });

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
    close: () => {
      if (context) nftables.free(context);
      context = undefined;
    },
  };
}

/** The library gives errors as text only; these are strerror's. */
function codeOf(error: string): string {
  if (/No such file or directory/.test(error)) return 'ENOENT';
  if (/File exists/.test(error)) return 'EEXIST';
  if (/Device or resource busy/.test(error)) return 'EBUSY';
  if (/Operation not permitted/.test(error)) return 'EPERM';
  return 'EINVAL';
}
