/** What can go wrong between a person and their node. */
import { KoinonError } from '#base'

export type CliFault =
  /** An argument or option that cannot be understood. */
  | { readonly code: 'CLI_USAGE' }
  /** No node runs in the data directory. */
  | { readonly code: 'CLI_NO_NODE'; readonly dataDir: string }
  /** There is no node key to work with. */
  | { readonly code: 'CLI_NO_KEY'; readonly path: string }
  /** A model file that is not there, or a name that the node does not serve. */
  | { readonly code: 'CLI_MODEL_UNKNOWN'; readonly model: string }
  /** The node refused; `remote` is its own code. `peerCode`: it was a peer of the node that did. */
  | {
      readonly code: 'CLI_NODE_REFUSED'
      readonly remote: string
      readonly peerCode?: string
      readonly retryAfterMs?: number
    }
  /** No peer of the node goes by that id, or several do. */
  | { readonly code: 'CLI_PEER_UNKNOWN'; readonly peer: string; readonly found: number }
  /** The node's answer could not be read, was too large, or ended early. */
  | { readonly code: 'CLI_ANSWER_INVALID' }
  /** The node did not answer in time. */
  | { readonly code: 'CLI_NODE_SILENT'; readonly timeoutMs: number }
  /** Ctrl-C, or another signal, ended the command. */
  | { readonly code: 'CLI_INTERRUPTED' }

export class CliError extends KoinonError<CliFault> {
  override readonly name = 'CliError'
}

export function usageError(message: string): CliError {
  return new CliError({ code: 'CLI_USAGE' }, message)
}
