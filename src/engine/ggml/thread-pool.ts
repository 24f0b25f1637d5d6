/**
 * The threads that compute. Left to itself ggml makes new threads for every graph and ends them after it. On a machine
 * whose cores are all wanted, Linux may start such a thread on the core that already runs its sibling; the two then spin
 * at ggml's barriers, each waiting for a core that the other holds, until the scheduler parts them: a step of 17 ms took
 * 52 (two engines of two threads on two cores, docs/decisions/0002). A pool that lives as long as the process and sleeps
 * between graphs is woken on an idle core, and leaves the cores to other processes meanwhile.
 */
import { type Backend, type FunctionPointer, type Ggml, procedureAt, type Registry } from './binding.ts'

/**
 * `struct ggml_threadpool_params`, as far as it is used:
 *
 *     0    bool cpumask[512]   all false: any core
 *     512  int n_threads
 *     516  enum priority       0: normal
 *     520  uint32 poll         how long a thread spins for the next graph before it sleeps; 0: it sleeps at once
 *     524  bool strict_cpu
 *     525  bool paused
 */
const PARAMS_BYTES = 528
const THREADS_OFFSET = 512
const POLL_OFFSET = 520
/** What ggml fills in by itself. Anything else there means another layout than the one above. */
const POLL_DEFAULT = 50

/**
 * Gives the CPU back end a pool of its own. Does nothing where the back end hands out no pools, or where their settings
 * have another layout: it computes the same without.
 */
export function useThreadPool(
  ggml: Ggml,
  registry: Registry,
  call: { readonly backend: Backend; readonly threads: number },
): void {
  const create = ggml.procedure(registry, 'ggml_threadpool_new')
  const assign = ggml.procedure(registry, 'ggml_backend_cpu_set_threadpool')
  if (create === null || assign === null) return
  const params = new Uint8Array(2 * PARAMS_BYTES)
  ggml.initThreadPoolParams(params, call.threads)
  const view = new DataView(params.buffer)
  const isAsExpected =
    view.getInt32(THREADS_OFFSET, true) === call.threads && view.getUint32(POLL_OFFSET, true) === POLL_DEFAULT
  if (!isAsExpected) return
  view.setUint32(POLL_OFFSET, 0, true)
  const pool = createPool(create, params)
  if (pool === null) return
  const assignPool = procedureAt(assign, 'void', ['void *', 'void *']) as (backend: Backend, pool: bigint) => void
  assignPool(call.backend, pool)
}

function createPool(create: FunctionPointer, params: Uint8Array): bigint | null {
  const call = procedureAt(create, 'void *', ['void *']) as (params: Uint8Array) => bigint | null
  return call(params)
}
