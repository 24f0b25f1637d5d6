/**
 * How a conversation on `/koinon/pieces/1` begins: each side says in one message which versions of the rules it knows and
 * which model it is about; the one that was asked may refuse instead, with a reason. Then BitTorrent's messages follow, with
 * BEP 6, 10 and 52 agreed on. The stream says who the peer is, so nothing here does.
 */
import { decode, encode } from '@ipld/dag-cbor'
import { z } from 'zod'
import type { ByteStream } from '#base'
import { equalInConstantTime } from '#crypto'
import { bytesOf } from '#identity'
import { AGENT, withLengthPrefix } from '#wire'
import type { WireFault } from './errors.ts'
import { isFault, lost, malformed, tooLarge } from './faults.ts'
import { hangUp } from './hang-up.ts'
import { drain, type Inlet } from './inlet.ts'
import {
  AGENT_LENGTH_MAX,
  GREETING_BYTES_MAX,
  GREETING_VERSIONS_MAX,
  KOINON_REQUEST_BYTES_MAX,
  STOCK_REQUEST_BYTES_MAX,
} from './limits.ts'
import { uint32 } from './messages.ts'
import { negotiated } from './negotiate.ts'
import { createPeerSession, type SessionTerms } from './session.ts'
import type { PeerSession, SessionDeps, SessionOptions } from './types.ts'

/** Versions of what follows the greeting, the best first. */
const PIECES_VERSIONS: readonly number[] = [1]

const REFUSALS = ['unknown-model', 'version', 'busy'] as const
export type Refusal = (typeof REFUSALS)[number]

const versionList = z.array(z.int().min(0).max(65_535)).min(1).max(GREETING_VERSIONS_MAX)
const agentText = z.string().max(AGENT_LENGTH_MAX)
// Loose: later versions may say more, and are still told which versions there are here.
const greetingSchema = z.looseObject({
  versions: versionList,
  model: bytesOf(32),
  requestBytesMax: z
    .int()
    .min(STOCK_REQUEST_BYTES_MAX)
    .max(2 ** 32),
  agent: agentText,
})
const refusalSchema = z.looseObject({ refusal: z.string().max(AGENT_LENGTH_MAX), versions: versionList })

export type Greeting = z.infer<typeof greetingSchema>

/** What is asked for, by model id of 32 bytes. */
export type OpenOptions = SessionOptions & { readonly model: Uint8Array }

/** Decides whether there is a session about this model. It has as long as the greeting may take. */
export type Admit = (model: Uint8Array) => SessionOptions | Refusal | Promise<SessionOptions | Refusal>

/**
 * Begins a session as the side that opened the stream. Never rejects; where it fails the stream is over.
 * @returns a session that is to be started, or why there is none
 */
export function openPieces(
  deps: SessionDeps,
  stream: ByteStream,
  options: OpenOptions,
): Promise<PeerSession | WireFault> {
  return negotiated(deps.clock, stream, async inlet => {
    stream.send(encodeGreeting(options.model))
    const answer = await readAnswer(inlet)
    if (isFault(answer)) return answer
    if (!equalInConstantTime(answer.model, options.model)) return malformed('an answer about another model')
    if (commonVersion(answer.versions) === undefined) return NO_VERSION
    return createPeerSession(deps, termsOf(stream, inlet, answer), options)
  })
}

/**
 * Begins a session as the side whose peer opened the stream. Never rejects; where it fails the stream is over.
 * @returns a session that is to be started, with the model it is about, or why there is none
 */
export function acceptPieces(
  deps: SessionDeps,
  stream: ByteStream,
  admit: Admit,
): Promise<{ readonly session: PeerSession; readonly model: Uint8Array } | WireFault> {
  return negotiated(deps.clock, stream, async inlet => {
    const body = await readBody(inlet)
    if (isFault(body)) return body
    const greeting = decodeGreeting(body)
    if (greeting === undefined) return malformed('a greeting that makes no sense')
    const isKnown = commonVersion(greeting.versions) !== undefined
    const verdict = isKnown ? await admit(new Uint8Array(greeting.model)) : 'version'
    if (typeof verdict === 'string') {
      stream.send(encodeRefusal(verdict))
      await hangUp({ clock: deps.clock, pipe: stream }, { lastWords: Promise.resolve(), reading: drain(inlet) })
      return refused(verdict)
    }
    stream.send(encodeGreeting(greeting.model))
    const session = createPeerSession(deps, termsOf(stream, inlet, greeting), verdict)
    return { session, model: new Uint8Array(greeting.model) }
  })
}

export function encodeGreeting(model: Uint8Array): Uint8Array {
  const greeting = { versions: [...PIECES_VERSIONS], model, requestBytesMax: KOINON_REQUEST_BYTES_MAX, agent: AGENT }
  return withLengthPrefix(encode(greeting))
}

export function encodeRefusal(refusal: Refusal): Uint8Array {
  return withLengthPrefix(encode({ refusal, versions: [...PIECES_VERSIONS] }))
}

/** @returns undefined for what is no greeting */
export function decodeGreeting(body: Uint8Array): Greeting | undefined {
  return greetingSchema.safeParse(decoded(body)).data
}

/** @returns undefined for what is no refusal; a reason that is not known counts as busy */
export function decodeRefusal(body: Uint8Array): Refusal | undefined {
  const found = refusalSchema.safeParse(decoded(body)).data
  if (found === undefined) return undefined
  return REFUSALS.find(known => known === found.refusal) ?? 'busy'
}

async function readAnswer(inlet: Inlet): Promise<Greeting | WireFault> {
  const body = await readBody(inlet)
  if (isFault(body)) return body
  const refusal = decodeRefusal(body)
  if (refusal !== undefined) return refused(refusal)
  return decodeGreeting(body) ?? malformed('an answer to the greeting that makes no sense')
}

async function readBody(inlet: Inlet): Promise<Uint8Array | WireFault> {
  const head = await inlet.take(4)
  if (head === undefined) return lost('the stream ended before a greeting')
  const length = uint32(head, 0)
  if (length > GREETING_BYTES_MAX) return tooLarge('a greeting')
  return (await inlet.take(length)) ?? lost('the stream ended within a greeting')
}

function decoded(body: Uint8Array): unknown {
  try {
    return decode(body)
  } catch {
    return undefined // dag-cbor throws errors of many kinds for bytes that are none: all mean the same here.
  }
}

function commonVersion(theirs: readonly number[]): number | undefined {
  return PIECES_VERSIONS.find(version => theirs.includes(version))
}

const NO_VERSION: WireFault = {
  code: 'SWARM_VERSION',
  blame: 'nobody',
  what: 'no version of the protocol that both sides know',
}

function refused(refusal: Refusal): WireFault {
  if (refusal === 'version') return NO_VERSION
  if (refusal === 'busy') return { code: 'SWARM_BUSY', blame: 'nobody', what: 'there is no room for another session' }
  return { code: 'SWARM_UNKNOWN_MODEL', blame: 'nobody', what: 'the side that was asked does not have the model' }
}

function termsOf(stream: ByteStream, inlet: Inlet, theirs: Greeting): SessionTerms {
  return {
    party: stream.peer,
    kind: 'koinon',
    pipe: stream,
    inlet,
    theirRequestBytesMax: Math.min(theirs.requestBytesMax, KOINON_REQUEST_BYTES_MAX),
    ownRequestBytesMax: KOINON_REQUEST_BYTES_MAX,
    isFast: true,
    isExtended: true,
  }
}
