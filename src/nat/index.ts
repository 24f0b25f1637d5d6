/** What kind of network a node sits in, and how it is reached there: STUN, detection, port mapping, ICE and TURN. */
export * from './limits.ts'
export type * from './types.ts'
export { openUdp } from './udp.ts'
export { createPortMapper, gatewayProtocols } from './port-mapper.ts'
export { createIceAgent } from './ice.ts'
