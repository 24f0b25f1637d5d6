/** What can go wrong with the weights of models on their way. What a single peer does wrong ends its channel, and is no error of a pull. */
import { KoinonError } from '#base'

export type SwarmFault =
  /** The service is not running. */
  | { readonly code: 'SWARM_STOPPED' }
  /** Too many models are shared, or too many pulls are under way. */
  | { readonly code: 'SWARM_BUSY' }
  /** Nobody was found who could be asked. */
  | { readonly code: 'SWARM_NO_PEERS' }
  /** There are peers, and nobody of them gave the description of the model. */
  | { readonly code: 'SWARM_CORE_MISSING' }
  /** A description of a model that is not the one it should be, or does not fit what it describes. */
  | { readonly code: 'SWARM_CORE_INVALID' }
  /** Nobody who is connected has these pieces; `pieces`: how many. */
  | { readonly code: 'SWARM_PIECES_MISSING'; readonly pieces: number }
  /** The disk, or the quota, takes no more; `neededBytes`: what is still to come. */
  | { readonly code: 'SWARM_DISK_FULL'; readonly neededBytes: number }
  /** Pieces cannot be written for another reason. */
  | { readonly code: 'SWARM_STORE_FAILED' }
  /** An address of a peer, or a magnet link, that is none. */
  | { readonly code: 'SWARM_ADDRESS_INVALID' }
  | OriginFault

/** What can go wrong with places beside peers. */
export type OriginFault =
  /** The file that names other sources is not what it should be, or not kept as it should be. */
  | { readonly code: 'SWARM_ORIGIN_CONFIG' }
  /** A URL or an address that the rules do not let this node go to. */
  | { readonly code: 'SWARM_ORIGIN_REFUSED' }
  /** No connection, or none that lasted, in as many tries as are made. */
  | { readonly code: 'SWARM_ORIGIN_UNREACHABLE' }
  /** It wants to be left alone for longer than a fetch waits. */
  | { readonly code: 'SWARM_ORIGIN_BUSY'; readonly retryAfterMs: number }
  /** An HTTP status that is neither success nor anything that goes away. */
  | { readonly code: 'SWARM_ORIGIN_STATUS'; readonly status: number }
  /** What came is no answer to what was asked. */
  | { readonly code: 'SWARM_ORIGIN_ANSWER' }
  /** The server's certificate does not prove its name. */
  | { readonly code: 'SWARM_ORIGIN_CERTIFICATE' }
  | { readonly code: 'SWARM_ORIGIN_NOT_FOUND' }
  /** The token, or the key, is not accepted. */
  | { readonly code: 'SWARM_ORIGIN_CREDENTIALS' }
  /** The machine does not prove to be the one in the known hosts file. */
  | { readonly code: 'SWARM_ORIGIN_HOST_KEY' }
  /** The file has another length than the model's; `bytes` where it was told. */
  | { readonly code: 'SWARM_ORIGIN_SIZE'; readonly bytes?: number; readonly expectedBytes: number }
  /** The file became another one since it was first asked for. */
  | { readonly code: 'SWARM_ORIGIN_CHANGED' }
  /** rsync or ssh is not installed, here or there. */
  | { readonly code: 'SWARM_ORIGIN_PROGRAM'; readonly program: string }
  /** The disk has no room for what is on its way. */
  | { readonly code: 'SWARM_ORIGIN_SPACE' }
  /** The origin was closed. */
  | { readonly code: 'SWARM_ORIGIN_CLOSED' }

/** The error of everything in this module. */
export class SwarmError extends KoinonError<SwarmFault> {
  override readonly name = 'SwarmError'
}

export function stopped(): SwarmError {
  return new SwarmError({ code: 'SWARM_STOPPED' }, 'the swarm is not running')
}
