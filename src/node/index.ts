/** A whole node: builds the modules, wires them together, starts and stops them. */
export type { CommandFault } from './commands/errors.ts'
export { createNode } from './create-node.ts'
export type { NodeFault } from './errors.ts'
export { fromBase64, fromDagJson, toBase64, toDagJson } from './json/dag-json.ts'
export { openOwnIdentity } from './own-identity.ts'
export { type FilePlanConfig, planFile } from './plan-file.ts'
export { type ChoiceRequests, fromChatRequest, fromTextRequest } from './to-request.ts'
export type * from './types.ts'
