/**
 * How Node is started for weftd, so that it stays small (resident memory of an idle weftd, three nodes):
 * a small nursery, since its live data is small (-5 MB); garbage looked for from 8 MB on, and freed memory given back (-2 MB);
 * one arena, since its threads allocate little (-2 MB); none of the
 * optimizing compilers: the larger costs an answer of the resolver 0.6 µs, a twentieth of its socket calls (-5 MB), the smaller a tenth of
 * an idle weftd's computing (-2 MB).
 */
export const WEFTD_FLAGS = ['--max-semi-space-size=1', '--optimize-for-size', '--no-turbofan', '--no-maglev', '--initial-old-space-size=8'];
export const WEFTD_ENVIRONMENT = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536' };
