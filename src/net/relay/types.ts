/** What the rest of the node sees of relaying. */
import type { RelayStatus } from '#wire'

export interface HostRelay {
  status(): RelayStatus
  /** Our own addresses through relays, while reservations are held; they end in our peer id. */
  addresses(): readonly string[]
  /** Hears whenever `addresses()` has changed: what was published of them is no longer so. */
  onAddresses(listener: () => void): void
  /** Say so when it has become known, or has changed, whether others can dial this node: `HostDeps.isPublic` is asked again. */
  reachabilityChanged(): void
}
