/**
 * Generations on a running node by an entry that breaks every rule: streams of `/koinon/stage/1` inside a real session,
 * with real slots, and rows that no model has made.
 */
import { type ByteStream, concatBytes, systemClock, systemRandom, toHex } from '#base'
import { acceptSealedStream } from '#protocol'
import { encodeStageControl, encodeStageStart, PROTOCOLS, StageFrameReader, type StageOpen } from '#wire'
import { carriedByListener } from '../../../test/support/raw-carried.ts'
import { Chance, seedOfBytes } from '../lib/chance.ts'
import { type FuzzContext, type Fuzzer, type Outcome, type Target, within } from '../lib/fuzzer.ts'
import { cut, mutateBytes } from '../lib/mutate-bytes.ts'
import { stageFrames } from '../pure/stage-streams.ts'
import { type Attacker, isGone } from './attacker.ts'
import type { LiveNode } from './live-node.ts'
import { Pool } from './pool.ts'
import { answered } from './sessions.ts'

const OPENED_MS_MAX = 300
const PAUSE_MS = 30

export const liveStages: Fuzzer = { name: 'live-stages', kind: 'live', corpusOf: 'stage-streams', open }

async function open({ node, corpus }: FuzzContext): Promise<Target> {
  const live = await node()
  const pool = new Pool(live, attacker => attacker.onStream(PROTOCOLS.stage, stream => void takeBack(attacker, stream)))
  const attack = (chance: Chance, streams: (open: StageOpen) => readonly Uint8Array[]): Promise<Outcome> =>
    pool.use(chance, attacker => attackOnce(chance, attacker, { live, streams }))
  return {
    run: chance =>
      attack(chance, told =>
        Array.from({ length: chance.between(1, 3) }, () => {
          const bytes = concatBytes(stageFrames(chance, told, live.width))
          return chance.isOneIn(2) ? bytes : mutateBytes(chance, bytes, corpus)
        }),
      ),
    check: input => attack(new Chance(seedOfBytes(input)), () => [input]),
    settle: async () => {
      await pool.close()
      await live.verify()
    },
    close: () => pool.close(),
  }
}

type Attack = { readonly live: LiveNode; readonly streams: (open: StageOpen) => readonly Uint8Array[] }

async function attackOnce(chance: Chance, attacker: Attacker, { live, streams }: Attack): Promise<Outcome> {
  const told = openOf(attacker, live)
  const opened: ByteStream[] = []
  let outcome: Outcome = 'not asked'
  try {
    if (!chance.isOneIn(5)) {
      const stream = await attacker.open(PROTOCOLS.stage)
      opened.push(stream)
      outcome = await openGeneration(stream, told)
    }
    for (const bytes of streams(told)) {
      const stream = await attacker.open(PROTOCOLS.stage)
      opened.push(stream)
      drain(stream)
      for (const piece of cut(chance, bytes)) stream.send(piece)
    }
    await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  } catch (error) {
    if (!isGone(error)) throw error
  }
  for (const stream of opened) {
    if (chance.isOneIn(2)) stream.abort(new Error('enough'))
    else stream.close().catch(() => undefined)
  }
  const said = await answered(attacker, chance.uint32())
  return said === 'nothing' ? outcome : said
}

function openOf({ peer }: Attacker, { model }: LiveNode): StageOpen {
  return {
    kind: 'open',
    generation: toHex(systemRandom.bytes(16)),
    model,
    profile: '',
    layers: { first: 0, last: 8 },
    predecessor: peer,
    successor: { peer, addresses: [] },
    positionsMax: 64,
    deadlineMs: 5_000,
  }
}

/** Asks for a slot. @returns what the node says to that */
async function openGeneration(stream: ByteStream, told: StageOpen): Promise<Outcome> {
  stream.send(concatBytes([encodeStageStart('control'), encodeStageControl(told)]))
  const pieces = stream.received[Symbol.asyncIterator]()
  const first = await within('an answer', OPENED_MS_MAX, pieces.next()).catch(() => undefined)
  drain({ received: { [Symbol.asyncIterator]: () => pieces } })
  let said = 'no answer'
  const nothing = (): undefined => undefined
  const reader = new StageFrameReader({
    start: nothing,
    credit: nothing,
    step: nothing,
    rows: nothing,
    message: message => void (said = 'code' in message ? message.code : message.kind),
  })
  if (first?.done === false) reader.push(first.value)
  return said
}

/** The node sends rows back on streams of its own. Some are read, some are not, some get an answer that is none. */
async function takeBack(attacker: Attacker, stream: ByteStream): Promise<void> {
  const { session } = attacker
  if (session === undefined) return
  try {
    const sealed = await acceptSealedStream({ clock: systemClock }, { stream, session, onFault: () => undefined })
    const carried = await carriedByListener(sealed)
    const chance = new Chance(systemRandom.uint32())
    if (chance.isOneIn(4)) carried.send(chance.bytes(20))
    if (!chance.isOneIn(6)) drain(carried)
  } catch (error) {
    if (!isGone(error)) throw error
  }
}

/** Reads and forgets, until the end. */
function drain(stream: Pick<ByteStream, 'received'>): void {
  const read = async (): Promise<void> => {
    for await (const _ of stream.received);
  }
  read().catch(() => undefined) // However it ends.
}
