/** What the HTTP surface itself refuses or fails at. Errors of the modules below pass through `http-errors.ts`. */
import { KoinonError } from '#base'

export type ApiFault =
  /** The body is not what the route takes; `param` names the field. */
  | { readonly code: 'API_REQUEST_INVALID'; readonly param?: string }
  /** Part of OpenAI's API that would change the answer, but is not there yet. */
  | { readonly code: 'API_NOT_SUPPORTED'; readonly param?: string }
  | { readonly code: 'API_BODY_INVALID' }
  | { readonly code: 'API_BODY_SIZE' }
  | { readonly code: 'API_BODY_TYPE' }
  | { readonly code: 'API_ROUTE_UNKNOWN' }
  | { readonly code: 'API_METHOD_REFUSED'; readonly allow: string }
  | { readonly code: 'API_MODEL_UNKNOWN' }
  | { readonly code: 'API_HOST_REFUSED' }
  | { readonly code: 'API_ORIGIN_REFUSED' }
  /** The surface is stopping; what was in flight is given up. */
  | { readonly code: 'API_STOPPING' }
  /** The client closed its connection. Nobody is left to read this; it is the reason of the node's signal. */
  | { readonly code: 'API_CLIENT_GONE' }
  /** The client stopped reading a stream. */
  | { readonly code: 'API_CLIENT_SLOW' }
  /** The address or the socket cannot be listened on. */
  | { readonly code: 'API_LISTEN_FAILED' }

export class ApiError extends KoinonError<ApiFault> {
  override readonly name = 'ApiError'
}
