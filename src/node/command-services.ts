/** What commands need, put together from the parts of a running node. */
import type { Clock, Logger, Random } from '#base'
import type { EdgeReport } from '#engine'
import type { Host } from '#net'
import type { Pipeline } from '#pipeline'
import type { NodeOffer } from '#wire'
import { containsLayers, formatLayers } from '#base'
import { CommandError } from './commands/errors.ts'
import type { AuditRequest, AuditResult, CommandServices } from './commands/services.ts'
import { Gate } from './gate.ts'
import { AUDIT_WAIT_MS_MAX, AUDITS_WAITING_MAX } from './limits.ts'
import type { LocalModel } from './model-library.ts'
import type { OwnStage } from './own-stage.ts'
import { ShardLoader } from './shard-loader.ts'
import { SharedFiles } from './shared-files.ts'
import type { SwarmView } from './swarm-view.ts'

/** The node has its layers already: its own start and LOAD_SHARD must not load at once. */
export type CommandParts = Pick<CommandServices, 'capabilities' | 'commands' | 'ratings' | 'complete'> & {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly host: Pick<Host, 'id' | 'peers'>
  readonly pipeline: Pick<Pipeline, 'stages'>
  readonly view: Pick<SwarmView, 'routeOffers'>
  readonly model: LocalModel
  /** Undefined: this node takes no prompts. */
  readonly prompts: { readonly report: Pick<EdgeReport, 'profile'> } | undefined
  readonly stage: OwnStage | undefined
  readonly ownOffer: () => NodeOffer
  readonly offers: { announce(): void }
  readonly placement: { text: string }
  /** Aborts when the node stops. */
  readonly stopping: AbortSignal
}

/** @param options.sharesFiles whether peers may fetch the model's file. @default true */
export function createCommandServices(
  parts: CommandParts,
  options: { readonly sharesFiles?: boolean } = {},
): CommandServices {
  const { clock, host, model, stage, view } = parts
  const loader = new ShardLoader({
    ...parts,
    log: parts.log.child('stage'),
    self: host.id,
    stages: parts.pipeline.stages,
    announce: () => parts.offers.announce(),
  })
  return {
    self: host.id,
    model,
    random: parts.random,
    now: () => clock.now(),
    capabilities: parts.capabilities,
    commands: parts.commands,
    ownOffer: parts.ownOffer,
    peers: () =>
      host.peers().map(({ id, addresses, offer }) => ({
        id,
        addresses: addresses.length > 0 ? addresses : offer.addresses,
        offer,
      })),
    routeOffers: id => view.routeOffers(id),
    complete: parts.complete,
    edgeProfile: parts.prompts?.report.profile ?? 'none',
    files: new SharedFiles(parts, { isShared: options.sharesFiles ?? true }),
    ratings: parts.ratings,
    loadShard: (request, { signal }) => loader.load(request, { signal }),
    audit: createAudit(clock, stage),
  }
}

function createAudit(clock: Clock, stage: OwnStage | undefined): CommandServices['audit'] {
  const options = { runningMax: 1, waitingMax: AUDITS_WAITING_MAX, waitMsMax: AUDIT_WAIT_MS_MAX, what: 'audits' }
  const turns = new Gate(clock, options)
  return async (request, { signal }) => {
    const leave = await turns.enter(signal)
    try {
      return await computeAudit(stage, request)
    } finally {
      leave()
    }
  }
}

async function computeAudit(stage: OwnStage | undefined, { layers, count, rows }: AuditRequest): Promise<AuditResult> {
  const served = stage?.served()
  if (stage === undefined || served === undefined) {
    throw new CommandError({ code: 'NODE_STAGE_NONE' }, 'this node serves no layers now')
  }
  const { width, profile } = served
  const wanted = layers ?? served.layers
  if (!containsLayers(served.layers, wanted)) {
    const fault = { code: 'NODE_LAYERS_NOT_SERVED', layers: wanted, served: served.layers } as const
    const here = formatLayers(served.layers)
    throw new CommandError(fault, `layers ${formatLayers(wanted)} were asked for, ${here} are here`)
  }
  const expectedBytes = count * width * 4
  if (rows.byteLength !== expectedBytes) {
    const fault = { code: 'NODE_ROWS_INVALID', bytes: rows.byteLength, expectedBytes } as const
    const message = `${count} rows of width ${width} have ${expectedBytes} bytes, not ${rows.byteLength}`
    throw new CommandError(fault, message)
  }
  const outputs = await stage.engine.audit({ layers: wanted, count, rows })
  return { layers: wanted, width, profile, outputs }
}
