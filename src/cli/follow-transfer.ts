/** Follows a transfer of weights to its end: a bar on standard error, or with --json every event on standard output. */
import { formatBytes } from '#base'
import type { TransferProgress } from '#wire'
import { CliError } from './errors.ts'
import { interruptible } from './signals.ts'
import { sentenceFor } from './table.ts'
import { createPaint, jsonText, wantsColour } from './terminal.ts'
import { createTransferProgress } from './transfer-progress.ts'
import type { CliDeps } from './types.ts'
import type { TransferAnswer } from './weights-client.ts'

type Outcome = Exclude<TransferAnswer, { readonly kind: 'progress' }>

export type FollowOptions = {
  readonly isJson: boolean
  /** What to say of bytes that came before something ended the transfer early. @default nothing */
  readonly leftOver?: (progress: TransferProgress) => string
}

/**
 * Ctrl-C ends it at the node, too.
 * @returns how it ended; with --json that was printed
 * @throws CliError
 */
export async function followTransfer(
  deps: CliDeps,
  start: (options: { readonly signal: AbortSignal }) => AsyncIterable<TransferAnswer>,
  { isJson, leftOver }: FollowOptions,
): Promise<Outcome> {
  const { clock, stdout, stderr } = deps
  const paint = createPaint(wantsColour(stderr, deps.env))
  const reporter = createTransferProgress({ output: stderr, clock, paint })
  const interruption = interruptible(deps)
  let latest: TransferProgress | undefined
  try {
    for await (const event of start({ signal: interruption.signal })) {
      if (isJson) stdout.write(`${jsonText(event)}\n`)
      if (event.kind !== 'progress') return event
      latest = event.progress
      if (!isJson) reporter.report(latest)
    }
    throw new CliError({ code: 'CLI_ANSWER_INVALID' }, "the node's answer ended before it was complete")
  } catch (error) {
    if (isJson) printError(deps, error)
    else if (latest !== undefined && latest.doneBytes > 0 && leftOver !== undefined) {
      reporter.clear()
      stderr.write(`${sentenceFor(stderr, leftOver(latest))}\n`)
    }
    throw error
  } finally {
    reporter.clear()
    interruption.done()
  }
}

/** With --json, the event that ends it. */
function printError({ stdout }: CliDeps, error: unknown): void {
  if (!(error instanceof CliError) || error.fault.code !== 'CLI_NODE_REFUSED') return
  stdout.write(`${jsonText({ kind: 'error', code: error.fault.remote, message: error.message })}\n`)
}

/** What a pull leaves behind is kept. */
export function keptText({ doneBytes, totalBytes }: TransferProgress): string {
  return `Stopped at ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}. What came is kept: the same command goes on from there.`
}
