/**
 * One process at a time has a lab of a name: two runs (also of two clones) would clear away each other's hosts. The
 * lock is an abstract socket: it leaves no file, and the kernel releases it with the process.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

export interface Lock { release(): Promise<void> }

export async function lockLab(name: string): Promise<Lock> {
  const server: Server = createServer();
  server.listen(`\0weft-lab-${name}`);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new Error(`lab ${name} is in use by another process; wait for it, or end it`, { cause: error });
  }
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}
