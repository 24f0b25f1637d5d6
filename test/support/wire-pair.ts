/** Two peer sessions that are connected in memory. */
import { type ByteStream, createStreamPair, type Logger, ManualClock, silentLogger } from '#base'
import type { SessionEnd } from '../../src/swarm/wire/errors.ts'
import { createPeerSession, type SessionTerms } from '../../src/swarm/wire/session.ts'
import type { PeerSession, ReceivedMessage, SessionOptions } from '../../src/swarm/wire/types.ts'

export const LAYOUT = { pieceCount: 10, pieceBytes: (piece: number) => (piece === 9 ? 20_000 : 1024 * 1024) }

/** A session with everything that it told its owner. */
export type Side = { readonly session: PeerSession; readonly got: ReceivedMessage[]; readonly ends: SessionEnd[] }

export type PairOptions = Partial<Pick<SessionTerms, 'kind' | 'isFast' | 'isExtended'>> & {
  readonly layout?: SessionOptions['layout'] | null
  readonly says?: SessionOptions['says']
  readonly logger?: Logger
}

export function sideOf(session: PeerSession): Side {
  const side: Side = { session, got: [], ends: [] }
  session.onMessage = message => side.got.push(message)
  session.onEnd = end => side.ends.push(end)
  return side
}

/** One side as a session, the other as a bare stream. */
export function halfPair(options: PairOptions = {}): { side: Side; stream: ByteStream; clock: ManualClock } {
  const [stream, theirs] = createStreamPair('/koinon/pieces/1', { a: 'a', b: 'b' })
  const clock = new ManualClock()
  return { side: sideOf(made(theirs, clock, options)), stream, clock }
}

export function sessionPair(options: PairOptions = {}): { a: Side; b: Side; clock: ManualClock } {
  const [left, right] = createStreamPair('/koinon/pieces/1', { a: 'a', b: 'b' })
  const clock = new ManualClock()
  const [a, b] = [sideOf(made(left, clock, options)), sideOf(made(right, clock, options))]
  a.session.start()
  b.session.start()
  return { a, b, clock }
}

function made(pipe: ByteStream, clock: ManualClock, options: PairOptions): PeerSession {
  const {
    kind = 'koinon',
    isFast = true,
    isExtended = true,
    layout = LAYOUT,
    says = {},
    logger = silentLogger,
  } = options
  const requestBytesMax = kind === 'koinon' ? 1024 * 1024 : 16 * 1024
  return createPeerSession(
    { clock, logger },
    {
      party: pipe.peer,
      kind,
      pipe,
      theirRequestBytesMax: requestBytesMax,
      ownRequestBytesMax: requestBytesMax,
      isFast,
      isExtended,
    },
    { layout: layout ?? undefined, says },
  )
}

/** Lets everything happen that needs no time. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve()
  await new Promise(resolve => setImmediate(resolve))
}
