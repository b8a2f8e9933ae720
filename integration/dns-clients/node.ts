/** What a program gets from Node: `node.ts ares|libc TYPE/NAME…` asks by dns.resolve (c-ares) or dns.lookup (the C library); prints as libc.c does. */
import { lookup, lookupService, resolve4, resolve6, reverse } from 'node:dns/promises';

type Ask = (name: string) => Promise<string[]>;

const both = async (...asked: Promise<string[]>[]): Promise<string[]> => (await Promise.all(asked.map((each) => each.catch(() => [])))).flat();
const byLibc = (family: 0 | 4 | 6): Ask => async (name) => (await lookup(name, { all: true, family })).map(({ address }) => address);

const WAYS: Record<string, Record<string, Ask>> = {
  ares: { A: resolve4, AAAA: resolve6, BOTH: (name) => both(resolve4(name), resolve6(name)), PTR: reverse },
  libc: {
    A: byLibc(4), AAAA: byLibc(6), BOTH: byLibc(0),
    // Without a name it gives the address back.
    PTR: async (ip) => [(await lookupService(ip, 0)).hostname].filter((name) => name !== ip),
  },
};

const [way = '', ...questions] = process.argv.slice(2);
for (const question of questions) {
  const [, type = '', name = ''] = /^(\w+)\/(.+)$/.exec(question) ?? [];
  const found = await WAYS[way]![type]!(name).catch(() => []);
  console.log([`${question}:`, ...found.toSorted()].join(' '));
}
