/** Makes the relaying part of a host: what the host was made with, told as relaying asks for it. */
import type { HostParts } from '../host-deps.ts'
import type { HostOptions } from '../types.ts'
import { Relay, type RelayDeps } from './relay.ts'

type Deps = Omit<RelayDeps, 'isPublic' | 'isTrusted' | 'adopt'> & Pick<HostParts, 'node' | 'isPublic' | 'isTrusted'>

export function createRelay(deps: Deps, options: HostOptions): Relay {
  const { secret, relay = 'auto', relaysHeld, region } = options
  return new Relay(
    {
      ...deps,
      isPublic: () => deps.isPublic?.(),
      isTrusted: peer => deps.isTrusted?.(peer) ?? secret !== undefined,
      adopt: (pipe, adoption) => deps.node.adopt(pipe, adoption),
    },
    {
      mode: relay,
      ...(relaysHeld === undefined ? {} : { reservations: relaysHeld }),
      ...(region === undefined ? {} : { region }),
    },
  )
}
