/**
 * Peers that serve layers of our model stay connected, however quiet they are: a route to them is what a prompt needs
 * first, and both neighbours in a chain of stages hold each other by the same rule.
 */
import type { Host, Peer } from '#net'

/** Holds every peer for as long as it is here and offers a stage of the model. */
export function holdStages(host: Pick<Host, 'onPeer' | 'hold' | 'peers'>, model: string): void {
  const releases = new Map<string, () => void>()
  const look = ({ id, offer }: Pick<Peer, 'id' | 'offer'>, isHere: boolean): void => {
    const isWanted = isHere && offer.stages.some(stage => stage.model === model)
    if (isWanted === releases.has(id)) return
    if (isWanted) releases.set(id, host.hold(id, 'stage'))
    else {
      releases.get(id)?.()
      releases.delete(id)
    }
  }
  for (const peer of host.peers()) look(peer, true)
  host.onPeer(({ kind, peer }) => look(peer, kind !== 'left'))
}
