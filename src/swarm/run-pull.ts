/** One pull from the moment when the model's core is known to its result: progress, waiting, and the sums at the end. */
import { abortable, type Clock, repeat } from '#base'
import { TORRENT_MODEL_FILE } from '#formats'
import { SwarmError } from './errors.ts'
import { ORIGINS_PER_PULL_MAX, PROGRESS_INTERVAL_MS } from './limits.ts'
import type { ModelSwarm, RunningPull } from './model-swarm.ts'
import type { PullOptions, PullProgress, PullResult } from './swarm-types.ts'

export type RunPullOptions = PullOptions & {
  readonly noPeersMs: number
  readonly piecesMissingMs: number
}

/** @throws SwarmError; the signal's reason */
export async function runPull(
  deps: { readonly clock: Clock; readonly model: ModelSwarm },
  options: RunPullOptions,
): Promise<PullResult> {
  const { clock, model } = deps
  const { origins = [], from = [], noPeersMs, piecesMissingMs, signal, onProgress, pieceLayer } = options
  if (origins.length > ORIGINS_PER_PULL_MAX)
    throw new SwarmError({ code: 'SWARM_BUSY' }, 'more origins than a pull may have')
  if (pieceLayer !== undefined) putPieceLayer(model, pieceLayer)
  const ranges = typeof options.wanted === 'function' ? options.wanted(model.options.core) : options.wanted
  const before = tally(model)
  const startedAt = clock.monotonic()
  const running = model.pull({ wanted: model.piecesOf(ranges), from, origins, noPeersMs, piecesMissingMs })
  const reports = new AbortController()
  const report = (): void => onProgress?.(progressOf(model, running))
  const reporting = repeat(clock, report, { periodMs: PROGRESS_INTERVAL_MS, signal: reports.signal })
  try {
    report()
    await abortable(running.ended, signal).catch((error: unknown) => {
      throw withReasons(error, running.dropped)
    })
    report()
  } finally {
    reports.abort()
    await reporting
    await running.close()
  }
  const after = tally(model)
  const { coreBytes, core, torrent, store } = model.options
  return {
    model: core.id,
    core: coreBytes,
    manifest: model.manifest,
    torrent,
    blob: store.blob,
    wantedBytes: running.pull.wantedBytes,
    hadBytes: running.pull.hadBytes,
    receivedBytes: after.received - before.received,
    wastedBytes: after.wasted - before.wasted,
    seconds: (clock.monotonic() - startedAt) / 1000,
    from: [...after.given]
      .map(([name, bytes]) => ({ name, bytes: bytes - (before.given.get(name) ?? 0) }))
      .filter(({ bytes }) => bytes > 0),
    dropped: running.dropped,
  }
}

/** Where a source was given up, that may be why nobody has what is missing. */
function withReasons(error: unknown, dropped: RunningPull['dropped']): unknown {
  if (!(error instanceof SwarmError) || dropped.length === 0) return error
  if (error.code !== 'SWARM_PIECES_MISSING' && error.code !== 'SWARM_NO_PEERS') return error
  const reasons = dropped.map(({ name, why }) => `${name}: ${why}`).join('; ')
  return new SwarmError(error.fault, `${error.message} (given up: ${reasons})`, { cause: error })
}

/** What has come for the model so far, by any pull. */
function tally({ intake }: ModelSwarm): {
  readonly received: number
  readonly wasted: number
  readonly given: ReadonlyMap<string, number>
} {
  const { receivedBytes, wastedBytes } = intake.facts()
  return { received: receivedBytes, wasted: wastedBytes, given: new Map(intake.given) }
}

function progressOf(model: ModelSwarm, { pull }: RunningPull): PullProgress {
  const { rate } = model.intake.facts()
  const { doneBytes, wantedBytes, missingBytes } = pull
  return {
    phase: 'pulling',
    doneBytes,
    totalBytes: wantedBytes,
    rate,
    ...(rate > 0 ? { etaS: missingBytes / rate } : {}),
    sources: model.sourceCount,
    peers: model.linkCount,
  }
}

/** @throws SwarmError SWARM_CORE_INVALID where these are not the hashes of the file */
function putPieceLayer({ options }: ModelSwarm, layer: Uint8Array): void {
  const isLayer = options.store.putHashes(TORRENT_MODEL_FILE, { first: 0, hashes: layer, proof: new Uint8Array(0) })
  if (!isLayer) throw new SwarmError({ code: 'SWARM_CORE_INVALID' }, 'the piece hashes are not those of the model')
}
