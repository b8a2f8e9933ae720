/** One owner's records by id, with what is asked of them again and again kept beside them. */
import type { TableName, Tables } from './state.ts';

export interface StoredRecord {
  table: TableName;
  key: string;
  epoch: number;
  sequence: number;
  /** null: deleted, and kept for a while so that others learn of it. */
  value: Tables[TableName] | null;
  /** On the injected clock. */
  deletedAt?: number;
}

export const recordId = (table: string, key: string): string => `${table} ${key}`;
const networkOf = ({ value }: StoredRecord): string | undefined => (value && 'networkId' in value ? value.networkId : undefined);

export class Records {
  readonly #records = new Map<string, StoredRecord>();
  readonly #deletions = new Set<string>();
  /** How many records of each network there are. */
  readonly #networks = new Map<string, number>();

  /** Ids of those that are deleted and still kept. */
  get deletions(): ReadonlySet<string> {
    return this.#deletions;
  }

  get(id: string): StoredRecord | undefined {
    return this.#records.get(id);
  }

  values(): MapIterator<StoredRecord> {
    return this.#records.values();
  }

  /** Whether there is a record of that network. */
  isOn(networkId: string): boolean {
    return this.#networks.has(networkId);
  }

  put(record: StoredRecord): void {
    const id = recordId(record.table, record.key);
    this.#uncount(id);
    this.#records.set(id, record);
    if (record.value === null) this.#deletions.add(id);
    const network = networkOf(record);
    if (network !== undefined) this.#networks.set(network, (this.#networks.get(network) ?? 0) + 1);
  }

  delete(id: string): void {
    this.#uncount(id);
    this.#records.delete(id);
  }

  clear(): void {
    this.#records.clear();
    this.#deletions.clear();
    this.#networks.clear();
  }

  #uncount(id: string): void {
    const record = this.#records.get(id);
    if (!record) return;
    this.#deletions.delete(id);
    const network = networkOf(record);
    if (network === undefined) return;
    const count = this.#networks.get(network)! - 1;
    if (count > 0) this.#networks.set(network, count);
    else this.#networks.delete(network);
  }
}
