/**
 * Attachments, against a running node: a receiver that asks for pieces and breaks off, and a sender whose chunks are not
 * what they say, on streams of `/koinon/bulk/1` inside a real session.
 */
import { type ByteStream, concatBytes, systemClock, systemRandom, toHex } from '#base'
import { sha256 } from '#crypto'
import { acceptSealedStream } from '#protocol'
import { type AttachmentHeader, decodeBody, encodeBody, FRAME_TYPES, PROTOCOLS, responseSchema } from '#wire'
import { chunkMessage, encodeGet } from '../../../src/protocol/transfer/messages.ts'
import { carriedByListener } from '../../../test/support/raw-carried.ts'
import { commandsOf } from '../../../test/support/raw-commands.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { type FuzzContext, type Fuzzer, type Outcome, type Target, within } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'
import { COMMANDS } from '../pure/bodies.ts'
import { transferMessage } from '../pure/transfer-messages.ts'
import { type Attacker, isGone } from './attacker.ts'
import type { LiveNode } from './live-node.ts'
import { Pool } from './pool.ts'
import { answered } from './sessions.ts'

const ANSWER_MS_MAX = 2_000
const READ_MS_MAX = 50
const CHUNK_BYTES = 252 * 1024

export const liveBulk: Fuzzer = { name: 'live-bulk', kind: 'live', corpusOf: 'transfer-messages', open }

/** What each attacker sends when the node fetches from it. */
const uploads = new WeakMap<Attacker, readonly Uint8Array[]>()

async function open({ node, corpus }: FuzzContext): Promise<Target> {
  const live = await node()
  const pool = new Pool(live, attacker => attacker.onStream(PROTOCOLS.bulk, stream => void upload(attacker, stream)))
  return {
    run: chance =>
      pool.use(chance, async attacker => {
        const outcome = chance.isOneIn(2)
          ? await sendBadly(chance, attacker, { live, corpus })
          : await fetchBadly(chance, attacker, transfer => messages(chance, transfer, corpus))
        const said = await answered(attacker, chance.uint32())
        return said === 'nothing' ? outcome : said
      }),
    check: input => {
      const chance = new Chance(seedOfBytes(input))
      return pool.use(chance, async attacker => {
        await fetchBadly(chance, attacker, transfer => [encodeGet(transfer, 0), input.subarray(1)])
        return answered(attacker, chance.uint32())
      })
    },
    settle: async () => {
      await pool.close()
      await live.verify()
    },
    close: () => pool.close(),
  }
}

function messages(chance: Chance, transfer: Uint8Array, corpus: readonly Uint8Array[]): Uint8Array[] {
  const all = Array.from({ length: chance.between(0, 4) }, () => transferMessage(chance, transfer))
  if (!chance.isOneIn(4)) all.unshift(encodeGet(transfer, chance.pick([0, 0, CHUNK_BYTES, Math.abs(chance.border())])))
  return all.map(bytes => (chance.isOneIn(4) ? mutateBytes(chance, bytes, corpus) : bytes))
}

/** Asks for a piece of the model's file, and fetches it as nobody should. */
async function fetchBadly(
  chance: Chance,
  attacker: Attacker,
  said: (transfer: Uint8Array) => readonly Uint8Array[],
): Promise<Outcome> {
  try {
    const transfer = chance.isOneIn(6) ? chance.bytes(16) : await offered(chance, attacker)
    if (transfer === undefined) return 'nothing offered'
    const stream = await attacker.open(PROTOCOLS.bulk)
    for (const piece of cut(chance, concatBytes(said(transfer)))) stream.send(piece)
    const pieces = stream.received[Symbol.asyncIterator]()
    for (let left = chance.below(6); left > 0; left--) {
      const piece = await within('a chunk', READ_MS_MAX, pieces.next())
      if (piece.done === true) break
      if (chance.isOneIn(4)) stream.send(transferMessage(chance, transfer))
    }
    stream.abort(new Error('enough'))
  } catch (error) {
    if (!isGone(error)) throw error
  }
  return 'fetched'
}

/** The id of an attachment that waits for us. */
async function offered(chance: Chance, attacker: Attacker): Promise<Uint8Array | undefined> {
  const { control } = attacker
  if (control === undefined) return undefined
  const { answer } = await within('files', ANSWER_MS_MAX, commandsOf(control).ask(typeOf('LIST_FILES'), {}))
  const files = answer['files'] as readonly { readonly file: string; readonly piece_count: number }[] | undefined
  const [file] = files ?? []
  if (file === undefined) return undefined
  const body = { file: file.file, piece: chance.below(file.piece_count) }
  const id = commandsOf(control).send(typeOf('REQUEST_PIECE'), body)
  const header = await within('a piece', ANSWER_MS_MAX, headerOf(control, id))
  return header !== undefined && 'transfer' in header ? header.transfer : undefined
}

async function headerOf(
  control: NonNullable<Attacker['control']>,
  id: Uint8Array,
): Promise<AttachmentHeader | undefined> {
  for (;;) {
    const { type, body } = await control.next()
    if (type === FRAME_TYPES.error) return undefined
    const decoded = type === FRAME_TYPES.response ? decodeBody(responseSchema, body) : undefined
    if (decoded !== undefined && 'body' in decoded && toHex(decoded.body.id) === toHex(id)) {
      return decoded.body.attachment
    }
  }
}

/** Lets the node fetch the rows of an audit, which are not what was announced. */
async function sendBadly(
  chance: Chance,
  attacker: Attacker,
  { live, corpus }: { readonly live: LiveNode; readonly corpus: readonly Uint8Array[] },
): Promise<Outcome> {
  const count = chance.pick([1, 32])
  const rows = new Uint8Array(4 * count * live.width)
  const header: AttachmentHeader = {
    transfer: systemRandom.bytes(16),
    sizeBytes: chance.isOneIn(6) ? Math.abs(chance.border()) % 2 ** 32 : rows.byteLength,
    sha256: chance.isOneIn(6) ? chance.bytes(32) : sha256(rows),
  }
  uploads.set(attacker, chunksOf(chance, rows, corpus))
  const body = { model: live.model, count, nonce: toHex(systemRandom.bytes(32)), rows: chance.isOneIn(2) }
  const request = { id: systemRandom.bytes(16), body, attachment: header, deadlineMs: 5_000 }
  attacker.say(typeOf('AUDIT_CHALLENGE'), encodeBody(request))
  await new Promise(resolve => setTimeout(resolve, READ_MS_MAX))
  return 'sent'
}

function chunksOf(chance: Chance, rows: Uint8Array, corpus: readonly Uint8Array[]): Uint8Array[] {
  const size = chance.pick([rows.byteLength, rows.byteLength, 1, Math.ceil(rows.byteLength / 2)])
  const { bytes, room } = chunkMessage(
    0,
    Math.min(size, CHUNK_BYTES),
    chance.isOneIn(2) ? undefined : sha256(rows).slice(0, 8),
  )
  room.set(rows.subarray(0, room.byteLength))
  const all = [bytes]
  if (chance.isOneIn(3)) all.push(transferMessage(chance))
  if (chance.isOneIn(4)) all.unshift(transferMessage(chance))
  return all.map(message => (chance.isOneIn(3) ? mutateBytes(chance, message, corpus) : message))
}

/** The node has opened a stream to fetch something. */
async function upload(attacker: Attacker, stream: ByteStream): Promise<void> {
  const { session } = attacker
  if (session === undefined) return
  try {
    const sealed = await acceptSealedStream({ clock: systemClock }, { stream, session, onFault: () => undefined })
    const carried = await carriedByListener(sealed)
    for (const bytes of uploads.get(attacker) ?? []) carried.send(bytes)
    for await (const _ of carried.received);
    await carried.close()
  } catch (error) {
    if (!isGone(error)) throw error
  }
}

function typeOf(name: string): number {
  return COMMANDS.find(command => command.name === name)?.type ?? 0
}
