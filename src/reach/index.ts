/** Can this node be reached, and at which addresses? Votes, dial-backs, port mapping, the kind of NAT. */
export { decodePlace, encodePlace, isPublicIp, type Place, type Transport } from './address.ts'
export { ReachError, type ReachFault } from './errors.ts'
export * from './limits.ts'
export { pathsOf } from './paths.ts'
export { createReach } from './reach.ts'
export { type NetworkSurvey, surveyNetwork, type SurveyDeps } from './survey.ts'
export type * from './types.ts'
