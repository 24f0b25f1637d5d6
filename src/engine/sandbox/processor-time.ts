/**
 * What an engine child may use of the processors. Linux gives a process no rate of its own without extra rights
 * (RLIMIT_CPU counts a whole life, control groups belong to root), so the node looks now and then at what the kernel has
 * counted, as a token bucket in milliseconds of processor time: while something is asked of the child it fills by the
 * child's threads and a spare one, else by next to nothing.
 */
import { readFileSync } from 'node:fs'
import type { CancelTimer, Clock } from '#base'
import {
  CHILD_PROCESSOR_BURST_MS,
  CHILD_PROCESSOR_IDLE_SHARE,
  CHILD_PROCESSOR_LOOK_MS,
  CHILD_PROCESSOR_SPARE_THREADS,
} from '../limits.ts'

export type ProcessorLimits = {
  /** Time between two looks. */
  readonly lookMs: number
  /** What the bucket holds, and has at the start. */
  readonly burstMs: number
  /** Threads beside those that compute: of JavaScript, and of what cleans up behind it. */
  readonly spareThreads: number
  /** Processors that a child may use while nothing is asked of it. */
  readonly idleShare: number
}

export const PROCESSOR_LIMITS: ProcessorLimits = {
  lookMs: CHILD_PROCESSOR_LOOK_MS,
  burstMs: CHILD_PROCESSOR_BURST_MS,
  spareThreads: CHILD_PROCESSOR_SPARE_THREADS,
  idleShare: CHILD_PROCESSOR_IDLE_SHARE,
}

export type WatchedChild = {
  readonly pid: number
  readonly threads: number
  /** Whether anything was asked of it since the last look. */
  readonly wasAsked: () => boolean
  /** Called once. @param reason as the end of "the engine process ended: …" */
  readonly onExceeded: (reason: string) => void
}

/** Looks until it is cancelled, or the child is gone, or has used too much. Only Linux tells what a process has used. */
export function watchProcessorTime(
  deps: { readonly clock: Clock; readonly processor?: ProcessorLimits },
  child: WatchedChild,
): CancelTimer {
  const { clock, processor: limits = PROCESSOR_LIMITS } = deps
  let lookedAt = clock.monotonic()
  let usedMs = processorTimeMs(child.pid)
  let leftMs = limits.burstMs
  let cancel: CancelTimer = () => undefined
  const look = (): void => {
    const now = clock.monotonic()
    const nowUsedMs = processorTimeMs(child.pid)
    if (nowUsedMs === undefined || usedMs === undefined) return
    const share = child.wasAsked() ? child.threads + limits.spareThreads : limits.idleShare
    leftMs = Math.min(limits.burstMs, leftMs + share * (now - lookedAt) - (nowUsedMs - usedMs))
    lookedAt = now
    usedMs = nowUsedMs
    if (leftMs < 0) child.onExceeded('used more processor time than was asked of it')
    else cancel = clock.after(limits.lookMs, look)
  }
  if (usedMs !== undefined) cancel = clock.after(limits.lookMs, look)
  return () => cancel()
}

/** Linux counts in hundredths of a second, whatever the kernel's own clock (`USER_HZ`, proc(5)). */
const TICK_MS = 10

/** Of all threads of a process since its start; undefined where it is gone, or nobody tells. */
export function processorTimeMs(pid: number): number | undefined {
  try {
    // The second field is the program's name in brackets, which may hold anything; the 14th and 15th are what it used
    // itself, and what the kernel did for it.
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const ticks = Number(fields[11]) + Number(fields[12])
    return Number.isFinite(ticks) ? ticks * TICK_MS : undefined
  } catch {
    return undefined
  }
}
