/** How fast an answer should come, spelled out term by term so that a person can see what would make it faster. */
import { formatLayers, type LayerRange } from '#base'
import { handOffMs } from './find-route.ts'
import { ROUTE_RTT_UNKNOWN_MS } from './limits.ts'

export type EstimateStage = {
  readonly peer: string
  readonly isSelf: boolean
  readonly layers: LayerRange
  readonly computeMs: number
  readonly rttMs?: number
}

type Estimate = {
  readonly tokensPerSecond: number
  readonly stepMs: number
  /** One line for each term. */
  readonly why: readonly string[]
}

const inMs = (ms: number): string => `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`

/**
 * Expected speed of one generation: a token needs every stage once, the hand-offs between them and back, and the edges
 * (embedding, head and sampling) where the prompt entered.
 */
export function estimateTokensPerSecond(stages: readonly EstimateStage[], edgeMs: number): Estimate {
  const why: string[] = []
  let stepMs = 0
  const add = (ms: number, text: string): void => {
    stepMs += ms
    why.push(`${inMs(ms)} ${text}`)
  }
  const rttOf = (stage: EstimateStage): number => (stage.isSelf ? 0 : (stage.rttMs ?? ROUTE_RTT_UNKNOWN_MS))
  const nameOf = (stage: EstimateStage): string => (stage.isSelf ? 'this node' : stage.peer)
  let previous = { name: 'this node', rttMs: 0 }
  for (const stage of stages) {
    const here = { name: nameOf(stage), rttMs: rttOf(stage) }
    const note = !stage.isSelf && stage.rttMs === undefined ? ' (assumed: not measured yet)' : ''
    if (here.name !== previous.name) {
      add(handOffMs(previous.rttMs, here.rttMs), `from ${previous.name} to ${here.name}${note}`)
    }
    add(stage.computeMs, `layers ${formatLayers(stage.layers)} on ${here.name}`)
    previous = here
  }
  if (previous.name !== 'this node') add(handOffMs(previous.rttMs, 0), `from ${previous.name} back to this node`)
  add(edgeMs, 'embedding, head and sampling on this node')
  const tokensPerSecond = stepMs > 0 ? 1000 / stepMs : 0
  why.push(`together ${inMs(stepMs)} a token: ${tokensPerSecond.toFixed(1)} tokens/s`)
  return { tokensPerSecond, stepMs, why }
}
