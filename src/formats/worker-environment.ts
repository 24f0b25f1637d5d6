/** What a thread of this process gets of its environment: nothing but where compiled code is kept. */
import { getCompileCacheDir } from 'node:module'
import { dirname } from 'node:path'

/**
 * The environment of a worker thread. Where this process keeps compiled code, the thread uses it too: it would else strip the
 * types of its modules itself, with a compiler that takes 20 MiB of the process's memory from then on.
 */
export function workerEnvironment(): Record<string, string> {
  // Node adds a folder for its own version below the one that it is told.
  const folder = getCompileCacheDir()
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: dirname(folder) }
}
