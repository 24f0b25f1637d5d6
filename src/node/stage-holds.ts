/**
 * Peers that serve layers of our model stay connected, however quiet they are: a route to them is what a prompt needs
 * first, and both neighbours in a chain of stages hold each other by the same rule.
 */
import type { Host } from '#net'

/** Holds every peer for as long as it is here and offers a stage of the model. */
export function holdStages(host: Pick<Host, 'onPeer' | 'hold'>, model: string): void {
  const releases = new Map<string, () => void>()
  host.onPeer(({ kind, peer: { id, offer } }) => {
    const isWanted = kind !== 'left' && offer.stages.some(stage => stage.model === model)
    if (isWanted === releases.has(id)) return
    if (isWanted) releases.set(id, host.hold(id, 'stage'))
    else {
      releases.get(id)?.()
      releases.delete(id)
    }
  })
}
