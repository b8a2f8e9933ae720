/** The folders are the architecture: imports point downwards only. */
const layers = ['cli', 'agent', 'plugin-spec', 'ingress', 'dns', 'drivers', 'ipam', 'cluster', 'gossip', 'store', 'cnm', 'linux', 'base'];

module.exports = {
  forbidden: [
    ...layers.map((layer, i) => ({
      name: `${layer}-imports-downwards`,
      severity: 'error',
      from: { path: `^${layer}/`, pathNot: '\\.test\\.ts$|testbed\\.ts$|-for-tests\\.ts$' },
      to: { path: `^(${[...layers.slice(0, i), 'integration', 'bench', 'scripts'].join('|')})/` },
    })),
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    { name: 'only-linux-touches-the-kernel', severity: 'error', from: { pathNot: '^linux/' }, to: { path: 'node_modules/koffi' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // TypeScript 7 has no API that it could use yet.
    parser: 'swc',
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.cjs', '.mjs', '.json', '.node'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
