/** Who a node is: its key, its peer id. Pure. */
export type { IdentityFault } from './errors.ts'
export { createNodeIdentity, encodeKeyFile, type NodeIdentity, parseKeyFile } from './node-identity.ts'
