/** The files that `weft up` and `weft join` are given for an etcd of the user's. */
import { resolve } from 'node:path';

export interface StoreFiles { storeCa?: string; storeCert?: string; storeKey?: string }

/** As the configuration has them; what was not given is left out. weftd reads them later, from another folder. */
export const storeFiles = ({ storeCa: ca, storeCert: cert, storeKey: key }: StoreFiles): Record<string, string> =>
  Object.fromEntries(Object.entries({ ca, cert, key }).flatMap(([name, path]) => (path === undefined ? [] : [[name, resolve(path)]])));
