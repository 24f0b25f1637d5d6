/**
 * A file on a machine with rsync and ssh as an origin. rsync fetches whole files or, with `--append`, what lies behind the
 * end of the file that is here already. So a range begins with an empty staging file that is as long as the range's offset (a
 * hole), rsync appends to it, and what has come is handed out while the rest comes. rsync runs a bit ahead, so that ranges in
 * order need one connection; a range elsewhere needs a new one. See docs/decisions/0012-ranges-by-rsync.md.
 */
import { abortError, assert, type Clock, type Random, sleep } from '#base'
import { SwarmError } from '../errors.ts'
import { ORIGIN_READ_BYTES, RSYNC_AHEAD_BYTES, RSYNC_AHEAD_FACTOR, RSYNC_LOOK_MS } from '../limits.ts'
import type { Origin } from '../types.ts'
import { createRetries, PassingError, type Retries } from './retries.ts'
import { assertMachine, assertRemotePath, type RsyncMachine } from './rsync-command.ts'
import { openRsyncWindow, type RsyncWindow } from './rsync-window.ts'

export type RsyncOriginDeps = { readonly clock: Clock; readonly random: Random }

export type RsyncOriginOptions = {
  readonly machine: RsyncMachine
  /** The file over there. Absolute. */
  readonly path: string
  readonly fileBytes: number
  /** Folder of this node alone, in which the origin makes a private one. */
  readonly stagingDir: string
  /** For people. @default the host's name */
  readonly name?: string
  /** rsync's own `--bwlimit`, so in steps of 1 KiB. @default no limit */
  readonly bytesPerSecond?: number
  /** Bytes of the staging file, and bytes that rsync goes ahead. @default RSYNC_STAGED_BYTES_MAX, RSYNC_AHEAD_BYTES */
  readonly stagedBytesMax?: number
  readonly aheadBytes?: number
}

/** @throws SwarmError SWARM_ORIGIN_CONFIG */
export function createRsyncOrigin(deps: RsyncOriginDeps, options: RsyncOriginOptions): Origin {
  assertMachine(options.machine)
  assertRemotePath(options.path)
  return new RsyncOrigin(deps, options)
}

type Wanted = {
  readonly from: number
  readonly to: number
  /** How far rsync may go beyond. */
  readonly aheadBytes: number
  readonly signal: AbortSignal
  readonly retries: Retries
}

class RsyncOrigin implements Origin {
  readonly kind = 'rsync'
  readonly name: string
  /** One staging file, one place in the file that rsync goes on from. */
  readonly parallel = 1
  readonly #deps: RsyncOriginDeps
  readonly #options: RsyncOriginOptions
  readonly #closing = new AbortController()
  #window: Promise<RsyncWindow> | undefined
  /** Fetches wait for one another. */
  #turn: Promise<void> = Promise.resolve()

  constructor(deps: RsyncOriginDeps, options: RsyncOriginOptions) {
    this.#deps = deps
    this.#options = options
    this.name = options.name ?? options.machine.host
  }

  async *fetch(
    range: { readonly offset: number; readonly length: number },
    { signal: callers }: { readonly signal: AbortSignal },
  ): AsyncGenerator<Uint8Array> {
    const { offset, length } = range
    const to = offset + length
    assert(offset >= 0 && length >= 0 && to <= this.#options.fileBytes, 'a range lies within its file')
    const signal = AbortSignal.any([callers, this.#closing.signal])
    const done = await this.#myTurn()
    try {
      const retries = createRetries(this.#deps)
      const aheadBytes = Math.min(this.#options.aheadBytes ?? RSYNC_AHEAD_BYTES, RSYNC_AHEAD_FACTOR * length)
      for (let from = offset; from < to; ) {
        const bytes = await this.#next({ from, to, aheadBytes, signal, retries })
        from += bytes.byteLength
        retries.progress(bytes.byteLength)
        yield bytes
      }
    } catch (error) {
      throw signal.aborted ? abortError(signal) : error
    } finally {
      done()
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new SwarmError({ code: 'SWARM_ORIGIN_CLOSED' }, `${this.name} was closed`))
    const opening = this.#window
    this.#window = undefined
    const window = await opening?.catch(() => undefined) // One that did not open needs no closing.
    await window?.close()
  }

  async #next(wanted: Wanted): Promise<Uint8Array> {
    if (wanted.signal.aborted) throw abortError(wanted.signal)
    const window = await this.#opened()
    const until = await this.#arrival(window, wanted)
    return window.read(wanted.from, Math.min(ORIGIN_READ_BYTES, until - wanted.from, wanted.to - wanted.from))
  }

  async #opened(): Promise<RsyncWindow> {
    this.#window ??= openRsyncWindow(this.#deps.clock, { ...this.#options, name: this.name })
    try {
      return await this.#window
    } catch (error) {
      this.#window = undefined
      throw error
    }
  }

  async #myTurn(): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const before = this.#turn
    this.#turn = promise
    await before
    return resolve
  }

  /** Waits until bytes from `from` on have come. @returns up to where */
  async #arrival(window: RsyncWindow, { from, to, aheadBytes, signal, retries }: Wanted): Promise<number> {
    for (;;) {
      if (signal.aborted) throw abortError(signal)
      const until = await window.aim({ from, to, aheadBytes })
      if (until > from) return until
      const ending = await window.takeEnding()
      if (ending === undefined) {
        await sleep(this.#deps.clock, RSYNC_LOOK_MS, { signal })
        continue
      }
      // The last bytes of a run may be seen after its end.
      if (ending.until > from) return ending.until
      const { failure = new PassingError('rsync ended early') } = ending
      if (!(failure instanceof PassingError)) throw failure
      if (await retries.again(failure, signal)) continue
      const text = `${this.name} cannot be reached: ${failure.message}`
      throw new SwarmError({ code: 'SWARM_ORIGIN_UNREACHABLE' }, text, { cause: failure })
    }
  }
}
