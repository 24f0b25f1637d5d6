/** What the command's exit code says; documented in `docs/guides/command-line.md` and in `koinon --help`. */
import { CliError } from './errors.ts'

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  noNode: 3,
  interrupted: 130,
} as const

export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** Of anything that was thrown. */
export function exitCodeOf(error: unknown): ExitCode {
  return error instanceof CliError ? EXIT_OF_CODE[error.code] : EXIT.failed
}

const EXIT_OF_CODE: Readonly<Record<CliError['code'], ExitCode>> = {
  CLI_USAGE: EXIT.usage,
  CLI_NO_NODE: EXIT.noNode,
  CLI_INTERRUPTED: EXIT.interrupted,
  CLI_NO_KEY: EXIT.failed,
  CLI_MODEL_UNKNOWN: EXIT.failed,
  CLI_PEER_UNKNOWN: EXIT.failed,
  CLI_NODE_REFUSED: EXIT.failed,
  CLI_ANSWER_INVALID: EXIT.failed,
  CLI_NODE_SILENT: EXIT.failed,
}
