/** One run of rsync, which appends to the staging file until it is done, fails or is ended. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { messageOf } from '#base'
import { RSYNC_COMPLAINT_CHARS_MAX } from '../limits.ts'
import { complaintFault, type Ending, programFault } from './rsync-complaint.ts'

/** What rsync says of the file before the first byte of it. */
export type FileFacts = {
  readonly bytes: number
  /** Date of the last change, as rsync writes it. */
  readonly modified: string
}

export type RunOptions = {
  /** Private folder with the ssh configuration and the staging file. */
  readonly directory: string
  readonly args: readonly string[]
  /** How long the staging file may become, in bytes; rsync ends there, and well. */
  readonly endMax: number
  /** Of the origin, for people. */
  readonly name: string
  readonly onFacts: (facts: FileFacts) => void
  /** It has ended; undefined: by itself, and well. Called once. */
  readonly onEnd: (failure: Error | undefined) => void
}

const FACTS = /(?:^|\n)(\d{1,15}) (\d{4}\/\d\d\/\d\d-\d\d:\d\d:\d\d)\n/

/** Status of the script below where there is no rsync; rsync, ssh and shells give others. */
const MISSING = 120

/**
 * The system lets rsync write up to a limit and no further, even while this process is too busy to look. The first argument is
 * the limit, in blocks as POSIX has them; rsync's follow.
 */
const WITHIN_LIMIT = `command -v rsync > /dev/null || exit ${MISSING}; ulimit -f "$1" && shift && exec rsync "$@"`
const LIMIT_BLOCK_BYTES = 512
const AT_LIMIT = /write failed on .*: File too large \(27\)/

/** Characters of standard output that are kept until the facts have come. */
const OUTPUT_CHARS_MAX = 4_096

export class RsyncRun {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #ended = Promise.withResolvers<void>()
  #isOver = false

  constructor(options: RunOptions) {
    const blocks = Math.ceil(options.endMax / LIMIT_BLOCK_BYTES)
    this.#child = spawn('/bin/sh', ['-c', WITHIN_LIMIT, 'sh', `${blocks}`, ...options.args], {
      cwd: options.directory,
      // Nothing of this process: no agent of ssh, no RSYNC_ variables. Dates in one zone, sentences in one language.
      env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: options.directory, LC_ALL: 'C', TZ: 'UTC' },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: rsync is three processes, ssh among them, and all of them are to end.
      detached: true,
    })
    this.#listen(options)
  }

  /**
   * Resolves when it is gone. Idempotent. By SIGKILL: it appends in place, so there is nothing that it would tidy up, and told
   * to end politely it takes two seconds (measured).
   */
  async end(): Promise<void> {
    const { pid } = this.#child
    if (!this.#isOver && pid !== undefined) killGroup(pid)
    await this.#ended.promise
  }

  #listen({ name, onFacts, onEnd }: RunOptions): void {
    let output = ''
    let complaint = ''
    let hasFacts = false
    const end = (failure: Error | undefined): void => {
      if (this.#isOver) return
      this.#isOver = true
      this.#ended.resolve()
      onEnd(failure)
    }
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (hasFacts) return
      output = (output + text).slice(0, OUTPUT_CHARS_MAX)
      const found = FACTS.exec(output)
      if (found === null) return
      hasFacts = true
      onFacts({ bytes: Number(found[1]), modified: found[2] ?? '' })
    })
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(0, RSYNC_COMPLAINT_CHARS_MAX)
    })
    this.#child.on('error', error => {
      end(programFault('rsync', `cannot be started: ${messageOf(error)}`))
    })
    this.#child.on('close', status => {
      if (status === MISSING) return end(programFault('rsync', 'is not installed'))
      const isOdd = (status !== 0 && !AT_LIMIT.test(complaint)) || /skipping/.test(output)
      const ending: Ending = { status, complaint: isOdd && status === 0 ? output : complaint }
      end(isOdd ? complaintFault(ending, name) : undefined)
    })
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    // The group is gone already, which is what was wanted; its exit is on the way.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}
