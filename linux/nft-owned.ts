export { hookDns, type DnsHook } from './owned-table.ts';
