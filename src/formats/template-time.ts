/** How long a template may run, counted so that a busy machine does not make a good template a bad one. */

/** What runs out of time in `node:vm` throws this. */
export function isScriptTimeout(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
}

/**
 * Runs what can be repeated, under a limit that `node:vm` can only count by the clock on the wall. Where that was over before
 * this process had half of it as processor time, others had the processor, and it runs again with twice the time.
 * @param run is given its limit in milliseconds, and throws what `isScriptTimeout` knows where it meets it
 * @param processorMs processor time that this process has used, in milliseconds
 * @throws what `run` throws, at once where it is something else than want of time
 */
export function runInProcessorTime<T>(
  run: (limitMs: number) => T,
  { timeoutMs, triesMax, processorMs }: { timeoutMs: number; triesMax: number; processorMs: () => number },
): T {
  for (let tried = 1, limitMs = timeoutMs; ; tried++, limitMs *= 2) {
    const before = processorMs()
    try {
      return run(limitMs)
    } catch (error) {
      const hadItsTime = processorMs() - before >= timeoutMs / 2
      if (!isScriptTimeout(error) || hadItsTime || tried >= triesMax) throw error
    }
  }
}

/** The longest that `runInProcessorTime` takes, by the clock on the wall, in milliseconds. */
export function wallMsMax({ timeoutMs, triesMax }: { timeoutMs: number; triesMax: number }): number {
  return timeoutMs * (2 ** triesMax - 1)
}
