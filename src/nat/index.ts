/** What kind of network a node sits in, and how it is reached there: STUN, detection, port mapping, ICE and TURN. */
export { type DetectDeps, detectNat, type DetectOptions, type NatReport } from './detect.ts'
export type { NatVerdict, Observation } from './detection.ts'
export type { NatFault } from './errors.ts'
export { foreseeTcp, type TcpForesight } from './foresight.ts'
export { bytesOfAddress, decodeIp, isPrivate, isUnicast } from './ip.ts'
export {
  createIceAgent,
  type IceAgent,
  type IceDeps,
  type IceOptions,
  type IcePath,
  type IceSelectedPair,
} from './ice.ts'
export type { IceCandidate, IceDescription } from './ice-description.ts'
export * from './limits.ts'
export { findGateways, type Gateway } from './mapping/gateways.ts'
export type { MappingProtocol, MappingRequest, PortMapping } from './mapping/types.ts'
export {
  createPortMapper,
  gatewayProtocols,
  type MappingChange,
  type PortMapper,
  type PortMapperDeps,
  type PortMapperOptions,
} from './port-mapper.ts'
export type { PortPattern, PortSample } from './port-prediction.ts'
export type { BindingAnswer, BindingOptions, StunClientDeps } from './stun/client.ts'
export {
  closeStunSockets,
  createStunServer,
  openStunSockets,
  type StunServer,
  type StunServerCounts,
  type StunServerDeps,
  type StunSockets,
} from './stun/server.ts'
export type * from './types.ts'
export { localAddresses, openUdp } from './udp.ts'
