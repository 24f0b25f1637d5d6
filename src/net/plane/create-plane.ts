/** Makes the data plane of a host that is to have one. */
import type { HostParts } from '../host-deps.ts'
import type { HostOptions } from '../types.ts'
import { DataPlane, type DataPlaneDeps } from './data-plane.ts'

export type PlaneOptions = {
  /** IP addresses to listen at. */
  readonly hosts: readonly string[]
  /** Ports of TCP where the host itself will listen. */
  readonly taken: ReadonlySet<number>
  readonly port: HostOptions['planePort']
}

/** @returns undefined where the owner wants none, and without TCP: its sockets are TCP's */
export function createPlane(
  deps: DataPlaneDeps & Pick<HostParts, 'node'>,
  { hosts, taken, port = 0 }: PlaneOptions,
): DataPlane | undefined {
  if (port === 'off' || !deps.node.transports.has('tcp')) return undefined
  return new DataPlane(deps, { hosts, port, avoids: other => taken.has(other) })
}
