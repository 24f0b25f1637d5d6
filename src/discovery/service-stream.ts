/**
 * `/koinon/services/1`: a peer is told our announcement, or asked whose it knows. The side that opens sends one dag-cbor
 * map, {tell: announcement} or {ask: {service, model?}}, behind its length; a question is answered with announcements, one
 * a message, each signed by its own peer, and then the stream ends.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import { type ByteStream, type Clock, withDeadline } from '#base'
import { type Announcement, openAnnouncement, serviceName } from './announcement.ts'
import type { AnnouncementTable } from './announcement-table.ts'
import { isFault, type PeerFault } from './errors.ts'
import {
  ANNOUNCEMENT_BYTES_MAX,
  ANSWERED_ANNOUNCEMENTS_MAX,
  MODEL_NAME_CHARS_MAX,
  SERVICE_STREAM_MS_MAX,
} from './limits.ts'
import { MessageStream } from './messages.ts'
import type { ServiceQuery } from './types.ts'

/** Room for the map around an announcement. */
const MESSAGE_BYTES_MAX = ANNOUNCEMENT_BYTES_MAX + 64

const messageSchema = z.union([
  z.object({ tell: z.custom<Uint8Array>(value => value instanceof Uint8Array) }),
  z.object({
    ask: z.object({ service: serviceName, model: z.string().max(MODEL_NAME_CHARS_MAX).exactOptional() }),
  }),
])

type Bounds = { readonly clock: Clock; readonly signal: AbortSignal }

/** Tells the peer at the other end. @throws StreamError, TimeoutError */
export function tell(stream: ByteStream, announcement: Announcement, bounds: Bounds): Promise<void> {
  return bounded(stream, bounds, async messages => {
    await messages.send(encode({ tell: announcement.bytes }))
  })
}

/**
 * Asks the peer at the other end, and hands over what it answers as it comes.
 * @returns what it did wrong, where it did
 * @throws StreamError, TimeoutError
 */
export function ask(
  stream: ByteStream,
  query: ServiceQuery,
  options: Bounds & { readonly onAnnouncement: (announcement: Announcement) => void },
): Promise<PeerFault | undefined> {
  const { service, model } = query
  return bounded(stream, options, async messages => {
    await messages.send(encode({ ask: model === undefined ? { service } : { service, model } }))
    for (let count = 0; ; count++) {
      const message = await messages.next()
      if (message === undefined) return undefined
      if (isFault(message)) return message
      if (count >= ANSWERED_ANNOUNCEMENTS_MAX) return { code: 'DISCOVERY_FLOOD', what: 'too many announcements' }
      const announcement = openAnnouncement(message, options.clock.now())
      if (announcement === undefined) continue
      if (isFault(announcement)) return announcement
      options.onAnnouncement(announcement)
    }
  })
}

/**
 * The other end of both. What the peer tells must be its own.
 * @returns what it told of itself, or did wrong
 */
export function answer(
  stream: ByteStream,
  table: AnnouncementTable,
  bounds: Bounds,
): Promise<Announcement | PeerFault | undefined> {
  return bounded(stream, bounds, async messages => {
    const message = await messages.next()
    if (message === undefined || isFault(message)) return message
    const said = parse(message)
    if (said === undefined) return { code: 'DISCOVERY_MALFORMED', what: 'a message about services that does not parse' }
    if ('tell' in said) {
      const announcement = openAnnouncement(said.tell, bounds.clock.now())
      if (announcement === undefined || isFault(announcement) || announcement.peer === stream.peer) return announcement
      return { code: 'DISCOVERY_ANNOUNCEMENT', what: 'an announcement of another peer' }
    }
    let count = 0
    for (const { bytes } of table.find(said.ask)) {
      if (++count > ANSWERED_ANNOUNCEMENTS_MAX) break
      await messages.send(bytes)
    }
    return undefined
  })
}

/** Ends the stream whatever happens: in order, or by a reset. */
async function bounded<T>(
  stream: ByteStream,
  { clock, signal }: Bounds,
  converse: (messages: MessageStream) => Promise<T>,
): Promise<T> {
  const deadline = { what: 'a stream about services', timeoutMs: SERVICE_STREAM_MS_MAX, signal }
  try {
    const outcome = await withDeadline(clock, deadline, () => converse(new MessageStream(stream, MESSAGE_BYTES_MAX)))
    if (typeof outcome === 'object' && outcome !== null && isFault(outcome)) stream.abort(new Error(outcome.what))
    else await stream.close()
    return outcome
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error('a stream about services broke off'))
    throw error
  }
}

function parse(bytes: Uint8Array): z.infer<typeof messageSchema> | undefined {
  try {
    return messageSchema.safeParse(decode(bytes)).data
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}
