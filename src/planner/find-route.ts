/**
 * Chooses the chain of stages for one generation. A cut between two stages need only be tried where the first one ends
 * or the second one begins: between those, moving the cut trades one time per layer against another, so an end is best.
 */
import { type LayerRange, layersIn } from '#base'
import type { PlanFault } from './errors.ts'
import { ROUTE_BUSY_MS, ROUTE_HOP_MS, ROUTE_LABELS_MAX, ROUTE_RTT_UNKNOWN_MS, ROUTE_SILENT_MS } from './limits.ts'
import { uncoveredLayers } from './place-missing.ts'
import type { Route, RouteOffer, RouteQuery, RouteStep } from './types.ts'

/** A partial route: all layers below its end are covered. */
type Label = {
  readonly costMs: number
  readonly hops: readonly RouteStep[]
  readonly contextMax: number
  /** Whether the last hop ended before its stage did: then the next hop must be one whose stage begins here. */
  readonly isShort: boolean
}

const EMPTY: Label = { costMs: 0, hops: [], contextMax: Number.MAX_SAFE_INTEGER, isShort: false }

const rttOf = (offer: RouteOffer): number => (offer.isSelf ? 0 : (offer.rttMs ?? ROUTE_RTT_UNKNOWN_MS))

/**
 * One-way time from one node of a route to the next. Only round trips from here are known; of two peers, the farther
 * one's is taken, which is right where one of them is this node or close to it.
 */
export function handOffMs(fromRttMs: number, toRttMs: number): number {
  return Math.max(fromRttMs, toRttMs) / 2 + (fromRttMs === 0 && toRttMs === 0 ? 0 : ROUTE_HOP_MS)
}

/** Other generations share the stage's time; one without a free slot is the last resort, and so is one that is silent. */
function waitingMs({ stage, inFlight = 0, isSilent = false }: RouteOffer, computeMs: number): number {
  const { slots, slotsFree } = stage
  const used = Math.max(slots - slotsFree, inFlight)
  const busyMs = slotsFree === 0 || used >= slots ? ROUTE_BUSY_MS : (computeMs * Math.max(0, used)) / slots
  return busyMs + (isSilent ? ROUTE_SILENT_MS : 0)
}

function extend(label: Label, offer: RouteOffer, layers: LayerRange): Label {
  const { stage } = offer
  const computeMs = (stage.stepMs * layersIn(layers)) / layersIn(stage.layers)
  const rttMs = rttOf(offer)
  const hop: RouteStep = {
    peer: offer.peer,
    addresses: offer.addresses,
    isSelf: offer.isSelf,
    layers,
    profile: stage.profile,
    computeMs,
    rttMs,
  }
  return {
    costMs: label.costMs + handOffMs(label.hops.at(-1)?.rttMs ?? 0, rttMs) + computeMs + waitingMs(offer, computeMs),
    hops: [...label.hops, hop],
    contextMax: Math.min(label.contextMax, stage.contextMax),
    isShort: layers.last < stage.layers.last,
  }
}

const keyOf = ({ hops }: Label): string => hops.map(hop => `${hop.peer} ${hop.layers.last}`).join()

function compare(a: Label, b: Label): number {
  const byCost = a.costMs - b.costMs || a.hops.length - b.hops.length
  if (byCost !== 0) return byCost
  return keyOf(a) < keyOf(b) ? -1 : 1
}

/** Whether whatever continues `b` continues `a` too, at no more cost: then `b` need not be kept. */
function dominates(a: Label, b: Label): boolean {
  if ((a.hops.at(-1)?.rttMs ?? 0) > (b.hops.at(-1)?.rttMs ?? 0)) return false
  if (a.isShort && !b.isShort) return false
  return a.hops.every(hop => b.hops.some(other => other.peer === hop.peer))
}

/** The cheapest partial routes that are not dominated, at most `ROUTE_LABELS_MAX`. */
function keep(labels: readonly Label[]): Label[] {
  const kept: Label[] = []
  for (const label of labels.toSorted(compare)) {
    if (kept.length >= ROUTE_LABELS_MAX) break
    if (!kept.some(better => dominates(better, label))) kept.push(label)
  }
  return kept
}

type Options = { readonly offers: readonly RouteOffer[]; readonly starts: readonly number[] }

/** Every way to go on from a partial route that reaches `cut`. `starts`: where stages begin. */
function* extensions(label: Label, cut: number, options: Options): Generator<{ end: number; label: Label }> {
  for (const offer of options.offers) {
    const { first, last } = offer.stage.layers
    if (cut < first || cut >= last || (label.isShort && cut !== first)) continue
    if (label.hops.some(hop => hop.peer === offer.peer)) continue
    for (const end of [...options.starts, last]) {
      const isStart = end > cut && end < last
      if (isStart || end === last) yield { end, label: extend(label, offer, { first: cut, last: end }) }
    }
  }
}

function cheapest(offers: readonly RouteOffer[], layerCount: number): Label | undefined {
  const starts = [...new Set(offers.map(({ stage }) => stage.layers.first))]
  const cuts = [...new Set([...starts, ...offers.map(({ stage }) => stage.layers.last)])].sort((a, b) => a - b)
  const waiting = new Map<number, Label[]>([[0, [EMPTY]]])
  for (const cut of cuts) {
    if (cut >= layerCount) break
    for (const label of keep(waiting.get(cut) ?? [])) {
      for (const { end, label: longer } of extensions(label, cut, { offers, starts })) {
        const labels = waiting.get(end)
        if (labels === undefined) waiting.set(end, [longer])
        else labels.push(longer)
      }
    }
  }
  const whole = (waiting.get(layerCount) ?? []).map(label => ({
    ...label,
    costMs: label.costMs + handOffMs(label.hops.at(-1)?.rttMs ?? 0, 0),
  }))
  return keep(whole)[0]
}

/**
 * Always taking the stage that reaches farthest finds a cover wherever there is one with one stage a peer. Dear routes
 * are better than none where the search above kept only partial routes that lead nowhere.
 */
function anyCover(offers: readonly RouteOffer[], layerCount: number): Label | undefined {
  let label = EMPTY
  let reached = 0
  while (reached < layerCount) {
    const usable = offers.filter(
      ({ peer, stage }) =>
        stage.layers.first <= reached && stage.layers.last > reached && !label.hops.some(hop => hop.peer === peer),
    )
    const best = usable.toSorted((a, b) => b.stage.layers.last - a.stage.layers.last)[0]
    if (best === undefined) return undefined
    label = extend(label, best, { first: reached, last: best.stage.layers.last })
    reached = best.stage.layers.last
  }
  return label
}

const byPeer = (a: RouteOffer, b: RouteOffer): number =>
  a.peer < b.peer ? -1 : a.peer > b.peer ? 1 : a.stage.layers.first - b.stage.layers.first

/**
 * Finds the chain of stages with the least expected time per step that covers [0, layerCount), each peer at most once.
 * A stage may be used in part. The order of `offers` does not matter.
 */
export function findRoute(offers: readonly RouteOffer[], query: RouteQuery): Route | PlanFault {
  const { model, layerCount, positions = 0, exclude } = query
  const usable = offers
    .filter(
      ({ peer, stage }) => stage.model === model && stage.layerCount === layerCount && exclude?.has(peer) !== true,
    )
    .filter(({ stage }) => stage.layers.last <= layerCount && stage.contextMax >= positions)
    .sort(byPeer)
  const label = cheapest(usable, layerCount) ?? anyCover(usable, layerCount)
  if (label === undefined) {
    const served = usable.map(({ stage }) => stage.layers)
    return { code: 'PLAN_NO_ROUTE', uncovered: uncoveredLayers(layerCount, served) }
  }
  return { hops: label.hops, contextMax: label.contextMax, costMs: label.costMs }
}
