/** Two ends of one session, joined by whatever the test puts between them. */
import { type Clock, ManualClock, type Random, seededRandom, silentLogger } from '#base'
import { type Ed25519Signer, ed25519Signer } from '#crypto'
import { ReplayFilter, type ReplayStore, SecureSession } from '#protocol'
import { type Frame, type FrameFault, FrameReader } from '#wire'

export type SessionPair = {
  readonly clock: ManualClock
  readonly dialler: SecureSession
  readonly listener: SecureSession
  readonly signers: { readonly dialler: Ed25519Signer; readonly listener: Ed25519Signer }
}

export const SESSION_ID = Uint8Array.from({ length: 16 }, (_, i) => 0xa0 + i)

/** A store in memory, and what was saved last. */
export function memoryReplayStore(): ReplayStore & { state: Uint8Array | undefined; saves: number } {
  return {
    state: undefined,
    saves: 0,
    load() {
      return this.state
    },
    save(state) {
      this.state = state
      this.saves++
    },
  }
}

export function replayFilter(clock: Clock, random: Random = seededRandom(1)): ReplayFilter {
  return new ReplayFilter({ clock, random, store: memoryReplayStore(), log: silentLogger })
}

type Options = {
  readonly seed?: number
  readonly clock?: ManualClock
  readonly resumptions?: number
  readonly rekey?: ConstructorParameters<typeof SecureSession>[1]['rekey']
}

export function createSessionPair(options: Options = {}): SessionPair {
  const { seed = 1, resumptions = 0, rekey } = options
  const clock = options.clock ?? new ManualClock(1_800_000_000_000)
  const random = seededRandom(seed)
  const signers = { dialler: ed25519Signer(random.bytes(32)), listener: ed25519Signer(random.bytes(32)) }
  const secrets = { dialler: random.bytes(32), listener: random.bytes(32) }
  const end = (role: 'dialler' | 'listener'): SecureSession => {
    const other = role === 'dialler' ? 'listener' : 'dialler'
    return new SecureSession(
      { clock, random, replay: replayFilter(clock) },
      {
        id: SESSION_ID,
        role,
        signer: signers[role],
        peerKey: signers[other].publicKey,
        keys: { send: secrets[role], receive: secrets[other] },
        resumptions,
        ...(rekey === undefined ? {} : { rekey }),
      },
    )
  }
  return { clock, dialler: end('dialler'), listener: end('listener'), signers }
}

/** What a reader without limits makes of the bytes of one frame. */
export function parseFrame(bytes: Uint8Array): Frame | FrameFault {
  for (const frame of new FrameReader(() => 2 ** 32).push(bytes)) return frame
  return { code: 'WIRE_FRAME_MALFORMED' }
}

/** The frame in these bytes, which must be one. */
export function frameOf(bytes: Uint8Array): Frame {
  const frame = parseFrame(bytes)
  if ('code' in frame) throw new TypeError(frame.code)
  return frame
}
