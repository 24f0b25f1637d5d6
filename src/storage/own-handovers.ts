/**
 * The statements by which this node's keys handed over to one another: `keys/handovers`, one in base64 a line, the oldest
 * first. Peers are told of those that lead to the key which the node has now. Lines of other keys stay: an owner may go
 * from one key to another and back.
 *
 * A rotation first writes the list as it will be to `handovers.new`, then replaces the key, then the list. So a list in
 * `handovers.new` counts once the key is the one that it leads to, and was never told to anybody before.
 */
import { verifyChain, verifyHandover } from '#identity'
import { readPrivateFile, stagedPath } from './durable-file.ts'
import { StorageError } from './errors.ts'
import { HANDOVER_LINES_MAX, HANDOVERS_BYTES_MAX, HANDOVERS_TOLD_MAX } from './limits.ts'

/** What is known of the key that a node has. */
export type OwnHandovers = {
  /** From a former key to this one, the oldest first; the newest HANDOVERS_TOLD_MAX of them. */
  readonly statements: readonly Uint8Array[]
  /** How often the node has changed its key. */
  readonly sequence: number
  /** When it did so last, Unix milliseconds. 0: never. */
  readonly at: number
  /** The key that this one has handed over to: it is not the node's any more. */
  readonly successor?: string
}

type Line = {
  readonly from: string
  readonly to: string
  readonly sequence: number
  readonly at: number
  readonly bytes: Uint8Array
}

/** All lines that count for a node whose key is `peer`, and whether they are still in `handovers.new`. */
export type HandoverList = { readonly lines: readonly Line[]; readonly isStaged: boolean }

/** @throws StorageError STORAGE_HANDOVERS */
export async function readHandovers(path: string, peer: string): Promise<HandoverList> {
  const staged = await readLines(stagedPath(path))
  if (staged?.at(-1)?.to === peer) return { lines: staged, isStaged: true }
  const text = await readPrivateFile(path, { what: 'the list of hand-overs', bytesMax: HANDOVERS_BYTES_MAX })
  const lines = text === undefined ? [] : parseLines(text)
  if (lines === undefined) throw damaged(path)
  return { lines, isStaged: false }
}

/** @throws StorageError STORAGE_HANDOVERS */
export function handoversOf(path: string, { lines }: HandoverList, peer: string): OwnHandovers {
  const chain: Line[] = []
  for (let to = peer; chain.length < HANDOVERS_TOLD_MAX; ) {
    const line = lines.findLast(candidate => candidate.to === to)
    if (line === undefined) break
    chain.unshift(line)
    to = line.from
  }
  const statements = chain.map(({ bytes }) => bytes)
  if ('code' in verifyChain(statements)) throw damaged(path)
  const successor = lines.findLast(line => line.from === peer)?.to
  const last = chain.at(-1)
  return {
    statements,
    sequence: last?.sequence ?? 0,
    at: last?.at ?? 0,
    ...(successor === undefined ? {} : { successor }),
  }
}

/** The file's text with one more statement. The oldest lines go where there are too many. */
export function textWith({ lines }: HandoverList, statement: Uint8Array): string {
  const all = [...lines.map(({ bytes }) => bytes), statement].slice(-HANDOVER_LINES_MAX)
  return all.map(bytes => `${Buffer.from(bytes).toString('base64')}\n`).join('')
}

/** Undefined where there is no such file, or not the whole of it. */
async function readLines(path: string): Promise<readonly Line[] | undefined> {
  const text = await readPrivateFile(path, { what: 'the list of hand-overs', bytesMax: HANDOVERS_BYTES_MAX })
  return text === undefined ? undefined : parseLines(text)
}

/** Undefined where a line is no statement whose signatures hold, or the last line is cut off. */
function parseLines(text: string): readonly Line[] | undefined {
  const texts = text.replaceAll('\r\n', '\n').split('\n')
  if (texts.pop() !== '' || texts.length > HANDOVER_LINES_MAX) return undefined
  const lines: Line[] = []
  for (const line of texts) {
    const bytes = new Uint8Array(Buffer.from(line, 'base64'))
    const handover = verifyHandover(bytes)
    if ('code' in handover) return undefined
    lines.push({
      from: handover.from.peer,
      to: handover.to.peer,
      sequence: handover.sequence,
      at: handover.at,
      bytes,
    })
  }
  return lines
}

function damaged(path: string): StorageError {
  return new StorageError(
    { code: 'STORAGE_HANDOVERS', path },
    `the list of hand-overs ${path} is damaged: restore it from a copy, or move it away; peers that know this node by a former key will then take it for another one`,
  )
}
