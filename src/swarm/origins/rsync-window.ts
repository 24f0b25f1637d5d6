/**
 * The part of a far file that lies in a staging file here, and the rsync that makes it longer. The staging file begins with a
 * hole that takes no room on the disk:
 *
 *   0           start            trusted        limit
 *   |   hole    |   has come     |   on its way |   rsync is ended here until more is asked for
 */
import { type FileHandle, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { assert, type Clock, messageOf, sleep } from '#base'
import { SwarmError } from '../errors.ts'
import { RSYNC_JUMP_BYTES, RSYNC_LOOK_MS, RSYNC_STAGED_BYTES_MAX } from '../limits.ts'
import { rsyncArguments, type RsyncMachine, SSH_CONFIG, sshConfig, STAGED } from './rsync-command.ts'
import { type FileFacts, RsyncRun } from './rsync-run.ts'

export type WindowOptions = {
  readonly machine: RsyncMachine
  readonly path: string
  readonly fileBytes: number
  readonly stagingDir: string
  readonly name: string
  readonly bytesPerSecond?: number | undefined
  /** What may lie in the staging file. @default RSYNC_STAGED_BYTES_MAX */
  readonly stagedBytesMax?: number | undefined
}

/** What is wanted, and how far rsync may go beyond it. */
export type Aim = { readonly from: number; readonly to: number; readonly aheadBytes: number }

/** Begins the name of each private folder. */
export const STAGING_PREFIX = 'rsync-'

/** @throws SwarmError SWARM_ORIGIN_SPACE */
export async function openRsyncWindow(clock: Clock, options: WindowOptions): Promise<RsyncWindow> {
  try {
    const directory = await mkdtemp(join(options.stagingDir, STAGING_PREFIX))
    await writeFile(join(directory, SSH_CONFIG), sshConfig(options.machine), { mode: 0o600 })
    const file = await open(join(directory, STAGED), 'wx+', 0o600)
    return new RsyncWindow(clock, options, { directory, file })
  } catch (error) {
    const text = `there is no place for what comes from ${options.name}: ${messageOf(error)}`
    throw new SwarmError({ code: 'SWARM_ORIGIN_SPACE' }, text, { cause: error })
  }
}

export class RsyncWindow {
  readonly #clock: Clock
  readonly #options: WindowOptions
  readonly #directory: string
  readonly #file: FileHandle
  readonly #stagedBytesMax: number
  #run: RsyncRun | undefined
  #isHalting = false
  #isClosed = false
  #ending: { readonly failure: Error | undefined } | undefined
  #start = 0
  /** Bytes before this offset are those of the file that rsync told of. */
  #trusted = 0
  #limit = 0
  /** Of the file, when it was first told. */
  #facts: FileFacts | undefined
  /** Goes up when the staging file begins anew. */
  #epoch = 0
  /** Whether this run has told the same; what comes before that may be of another file. */
  #isSameFile = false
  #mustCut = false

  constructor(clock: Clock, options: WindowOptions, place: { readonly directory: string; readonly file: FileHandle }) {
    this.#clock = clock
    this.#options = options
    this.#directory = place.directory
    this.#file = place.file
    this.#stagedBytesMax = options.stagedBytesMax ?? RSYNC_STAGED_BYTES_MAX
  }

  /** Sees to it that bytes from `from` on come. @returns up to where they have come; at most `from`: nothing yet */
  async aim({ from, to, aheadBytes }: Aim): Promise<number> {
    await this.#look()
    if (!this.#isNear(from)) await this.#empty(from)
    const { fileBytes } = this.#options
    const full = Math.min(this.#start + this.#stagedBytesMax, fileBytes)
    this.#limit = Math.max(this.#limit, Math.min(to + aheadBytes, full))
    // What comes next is on its way before all that is here was handed out.
    const isLow = this.#trusted < Math.min(Math.max(to, from + aheadBytes / 2), full)
    if (this.#run === undefined && this.#ending === undefined && isLow) await this.#begin()
    return this.#trusted
  }

  /** How the last run ended by itself, once, and up to where bytes have come; `failure` undefined: well. */
  async takeEnding(): Promise<{ readonly failure: Error | undefined; readonly until: number } | undefined> {
    const ending = this.#ending
    if (ending === undefined) return undefined
    this.#ending = undefined
    await this.#look()
    return { ...ending, until: this.#trusted }
  }

  async read(position: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length)
    const { bytesRead } = await this.#file.read(bytes, 0, length, position)
    assert(bytesRead > 0, 'a staging file has what it was seen to have')
    return bytes.subarray(0, bytesRead)
  }

  /** Ends rsync and gives the room on the disk back. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#halt()
    await this.#file.close()
    await rm(this.#directory, { recursive: true, force: true })
  }

  #isNear(from: number): boolean {
    if (from < this.#start) return false
    if (from < this.#trusted) return true
    const reach = this.#run === undefined ? 0 : RSYNC_JUMP_BYTES
    return from <= this.#trusted + reach && this.#trusted < this.#start + this.#stagedBytesMax
  }

  async #look(): Promise<void> {
    if (this.#mustCut && this.#run === undefined) {
      this.#mustCut = false
      await this.#file.truncate(this.#trusted)
    }
    const epoch = this.#epoch
    const { size } = await this.#file.stat()
    // The length may be that of before the file was emptied.
    if (this.#isSameFile && epoch === this.#epoch) this.#trusted = Math.max(this.#trusted, size)
  }

  /** Begins anew at another place; the room on the disk is free again. */
  async #empty(start: number): Promise<void> {
    await this.#halt()
    await this.#file.truncate(0)
    await this.#file.truncate(start)
    this.#epoch++
    this.#ending = undefined
    this.#start = start
    this.#trusted = start
    this.#limit = start
    this.#mustCut = false
    this.#isSameFile = false
  }

  async #begin(): Promise<void> {
    await this.#look()
    if (this.#isClosed) return
    const { path, name, bytesPerSecond } = this.#options
    this.#isSameFile = false
    const run = new RsyncRun({
      directory: this.#directory,
      args: rsyncArguments(path, { bytesPerSecond }),
      endMax: this.#start + this.#stagedBytesMax,
      name,
      onFacts: facts => this.#told(facts),
      onEnd: failure => this.#over(failure),
    })
    this.#run = run
    void this.#watch(run) // It catches its own errors, and ends with the run.
  }

  #told(facts: FileFacts): void {
    const { fileBytes, name } = this.#options
    this.#facts ??= facts
    if (facts.bytes !== fileBytes) {
      const text = `the file at ${name} has ${facts.bytes} bytes, the model's has ${fileBytes}: it is another file`
      this.#fail(new SwarmError({ code: 'SWARM_ORIGIN_SIZE', bytes: facts.bytes, expectedBytes: fileBytes }, text))
    } else if (facts.modified !== this.#facts.modified) {
      this.#fail(new SwarmError({ code: 'SWARM_ORIGIN_CHANGED' }, `the file at ${name} was changed meanwhile`))
    } else {
      this.#isSameFile = true
    }
  }

  #fail(failure: Error): void {
    this.#ending = { failure }
    void this.#halt() // Rejects never: it waits for a process to be gone.
  }

  #over(failure: Error | undefined): void {
    this.#run = undefined
    if (!this.#isSameFile) this.#mustCut = true
    if (this.#isHalting) return
    const { fileBytes, name } = this.#options
    const text = `the file at ${name} is shorter than the model's ${fileBytes} bytes: it is another file`
    const isShort = failure === undefined && !this.#isSameFile
    const size = new SwarmError({ code: 'SWARM_ORIGIN_SIZE', expectedBytes: fileBytes }, text)
    this.#ending = { failure: isShort ? size : failure }
  }

  async #halt(): Promise<void> {
    if (this.#run === undefined) return
    this.#isHalting = true
    await this.#run.end()
    this.#isHalting = false
  }

  /** rsync itself would go on to the end of the file. */
  async #watch(run: RsyncRun): Promise<void> {
    try {
      while (this.#run === run) {
        await sleep(this.#clock, RSYNC_LOOK_MS)
        if (this.#run !== run) return
        await this.#look()
        if (this.#trusted >= this.#limit && this.#limit < this.#options.fileBytes) await this.#halt()
      }
    } catch (error) {
      await this.#halt()
      this.#ending = { failure: error instanceof Error ? error : new Error(messageOf(error)) }
    }
  }
}
