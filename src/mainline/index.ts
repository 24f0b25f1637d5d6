/** A node of the BitTorrent Mainline DHT: announcements, peers, and small values, signed or hashed. IPv4 and IPv6. */
export { MainlineError, type MainlineFault } from './errors.ts'
export { createMainlineNode } from './node.ts'
export type {
  AbortOptions,
  Contact,
  DatagramSocket,
  DatagramSockets,
  Endpoint,
  Family,
  FamilyStatus,
  ItemSigner,
  MainlineDeps,
  MainlineNode,
  MainlineOptions,
  MainlineStatus,
  MutableItem,
  PutMutable,
  Rate,
} from './types.ts'
export { createUdpSockets } from './udp.ts'
