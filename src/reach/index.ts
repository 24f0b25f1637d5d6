/** Can this node be reached, and at which addresses? Votes, dial-backs, port mapping, the kind of NAT. */
export type { ReachFault } from './errors.ts'
export * from './limits.ts'
export { createReach } from './reach.ts'
export { type NetworkSurvey, surveyNetwork, type SurveyDeps } from './survey.ts'
export type * from './types.ts'
