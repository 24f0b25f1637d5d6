/** What the command line asks a running node about models' weights. */
import type {
  AddModelRequest,
  ModelDetails,
  ModelHolding,
  ModelTorrent,
  PullRequest,
  TransferEvent,
  TransferProgress,
} from '#wire'
import { CliError } from './errors.ts'

/** What a transfer tells: how far it is, then how it ended. An error is thrown. */
export type TransferAnswer = Exclude<TransferEvent, { readonly kind: 'error' }>

type Options = { readonly signal: AbortSignal }

/** Every method throws CliError as `LocalClient` does. Models go by their id, 8 digits or more of it, or their name. */
export interface WeightsClient {
  held(): Promise<readonly ModelHolding[]>
  details(model: string): Promise<ModelDetails>
  /** Bytes of a .torrent file. */
  torrent(model: string): Promise<Uint8Array>
  /** @returns bytes that are free now */
  remove(model: string): Promise<number>
  share(model: string, isShared: boolean): Promise<ModelDetails>
  vote(model: string, vote: { readonly isTrusted: boolean; readonly comment: string }): Promise<ModelDetails>
  /** These three go on until their end; aborting the signal, or leaving the loop, ends them at the node. */
  add(request: AddModelRequest, options: Options): AsyncGenerator<TransferAnswer>
  verify(model: string, options: Options): AsyncGenerator<TransferAnswer>
  pull(request: PullRequest, options: Options): AsyncGenerator<TransferAnswer>
}

/** How the client of the local socket asks. */
export type WeightsClientDeps = {
  readonly request: <T>(method: 'GET' | 'POST', path: string, body?: unknown) => Promise<T>
  /** The lines of a streamed answer, as JSON. */
  readonly stream: (asked: { readonly path: string; readonly body: object }, signal: AbortSignal) => AsyncGenerator
}

export function createWeightsClient({ request, stream }: WeightsClientDeps): WeightsClient {
  const follow = (path: string, body: object, { signal }: Options): AsyncGenerator<TransferAnswer> =>
    readTransfer(stream({ path, body }, signal))
  return {
    held: () => request('GET', '/local/models/held'),
    details: model => request('GET', `/local/models/details?model=${encodeURIComponent(model)}`),
    torrent: async model => {
      const answer = await request<ModelTorrent>('GET', `/local/models/torrent?model=${encodeURIComponent(model)}`)
      return Buffer.from(answer.torrent, 'base64')
    },
    remove: async model => {
      const { freedBytes } = await request<{ readonly freedBytes: number }>('POST', '/local/models/remove', { model })
      return freedBytes
    },
    share: (model, isShared) => request('POST', '/local/share', { model, isShared }),
    vote: (model, vote) => request('POST', '/local/models/vote', { model, ...vote }),
    add: (asked, options) => follow('/local/models/add', asked, options),
    verify: (model, options) => follow('/local/models/verify', { model }, options),
    pull: (asked, options) => follow('/local/pull', asked, options),
  }
}

/** Ends with the event that says how the transfer ended. */
async function* readTransfer(values: AsyncGenerator): AsyncGenerator<TransferAnswer> {
  for await (const value of values) {
    const event = value as Partial<TransferEvent> | null | undefined
    switch (event?.kind) {
      case 'progress':
        if (isProgress(event.progress)) {
          yield { kind: 'progress', progress: event.progress }
          continue
        }
        break
      case 'added':
      case 'pulled':
      case 'verified':
        yield event as TransferAnswer
        return
      case 'error':
        throw new CliError({ code: 'CLI_NODE_REFUSED', remote: String(event.code) }, String(event.message))
      case undefined:
      default:
    }
    throw new CliError({ code: 'CLI_ANSWER_INVALID' }, 'the node sent an event of an unknown kind')
  }
  throw new CliError({ code: 'CLI_ANSWER_INVALID' }, "the node's answer ended before it was complete")
}

function isProgress(value: unknown): value is TransferProgress {
  if (typeof value !== 'object' || value === null) return false
  const { phase, doneBytes, totalBytes } = value as Partial<TransferProgress>
  return typeof phase === 'string' && Number.isFinite(doneBytes) && Number.isFinite(totalBytes)
}
