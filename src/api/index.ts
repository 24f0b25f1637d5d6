/** The HTTP surface: OpenAI's API over TCP, and the command line's socket. */
export { ApiError, type ApiFault } from './errors.ts'
export { HTTP_ERRORS, toHttpError } from './http-errors.ts'
export { type Api, type ApiDeps, type ApiOptions, startApi } from './start-api.ts'
export { type LocalApiDeps, type LocalApiOptions, type LocalErrorEvent, startLocalApi } from './start-local-api.ts'
