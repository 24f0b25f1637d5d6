/** Why no plan exists. Faults, not exceptions: "it does not fit" is an ordinary answer to "does it fit?". */
import { formatBytes, formatLayers, type LayerRange } from '#base'

export type PlanFault =
  /** The machines cannot hold the model. `layers` are those that found no place, `missingBytes` what they need. */
  | { readonly code: 'PLAN_DOES_NOT_FIT'; readonly missingBytes: number; readonly layers: LayerRange }
  /** Nobody serves these layers. */
  | { readonly code: 'PLAN_NO_ROUTE'; readonly uncovered: readonly LayerRange[] }
  /** More layers or nodes than a plan may have. */
  | { readonly code: 'PLAN_TOO_LARGE'; readonly layers: number; readonly nodes: number }

/** Tells a fault from a result. */
export function isPlanFault(value: object): value is PlanFault {
  return 'code' in value
}

/** The fault as a sentence. */
export function describePlanFault(fault: PlanFault): string {
  if (fault.code === 'PLAN_DOES_NOT_FIT') {
    return (
      `the model does not fit: layers ${formatLayers(fault.layers)} need ${formatBytes(fault.missingBytes)} more ` +
      'memory than these machines give; add a node, allow more memory, or take a smaller context or fewer slots'
    )
  }
  if (fault.code === 'PLAN_TOO_LARGE') {
    return `a plan for ${fault.layers} layers on ${fault.nodes} nodes is beyond what the planner takes`
  }
  return fault.uncovered.length === 0
    ? 'no chain of stages covers the model with each peer used once'
    : `nobody serves layers ${fault.uncovered.map(formatLayers).join(', ')}`
}
