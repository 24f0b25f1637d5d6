/** The HTTP surface: OpenAI's API over TCP, and the command line's socket. */
export { ApiError } from './errors.ts'
export { HTTP_ERRORS, toHttpError } from './http-errors.ts'
export { type Api, type ApiOptions, startApi } from './start-api.ts'
export { startLocalApi } from './start-local-api.ts'
