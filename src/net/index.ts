/** The libp2p host: connections, admission, peers and streams. */
export type { NetFault } from './errors.ts'
export { createHost, type HostDeps } from './host.ts'
export * from './limits.ts'
export { checkSettings, DEFAULT_SETTINGS, type NetSettings, SETTINGS } from './settings.ts'
export type * from './types.ts'
export type { PeerGuard } from './peer-guard.ts'
export type { DatagramPath, PunchIce, PunchTools, TcpForesight, TcpObservation } from './punch/types.ts'
