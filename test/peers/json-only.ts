/**
 * A peer that speaks nothing but `/json-message/1.0`: lists what the node can do, finds nodes, fetches a piece of a file
 * and checks it against the file's root alone, runs a task. Prints what it got.
 *
 *     node test/peers/json-only.ts ADDRESS      (with KOINON_SWARM_SECRET where the swarm has one)
 */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { type Bytes, join, type Line, main, prefixed, withLine } from './dial.ts'

type Json = Readonly<Record<string, unknown>>
type Answer = { readonly result: Json; readonly attachment: Bytes; readonly events: readonly Json[] }
type Peer = { readonly ask: (command: string, params: Json) => Promise<Answer> }

const MESSAGE_BYTES_MAX = 2 * 1024 * 1024

function peerOf(line: Line): Peer {
  let count = 0
  const ask = async (command: string, params: Json): Promise<Answer> => {
    const id = `${++count}`
    line.send(prefixed(new TextEncoder().encode(JSON.stringify({ id, command, version: '1.0', params }))))
    const events: Json[] = []
    for (;;) {
      const message = await read(line)
      if (message['id'] !== id) throw new Error(`an answer to ${String(message['id'])}`)
      if (message['status'] === 'event') events.push(message['event'] as Json)
      else if (message['status'] === 'error') throw new Error(JSON.stringify(message['error']))
      else {
        const { result, attachment = '' } = message as { readonly result: Json; readonly attachment?: string }
        return { result, attachment: join(Buffer.from(attachment, 'base64')), events }
      }
    }
  }
  return { ask }
}

async function read(line: Line): Promise<Json> {
  const length = new DataView((await line.read(4)).buffer).getUint32(0)
  if (length > MESSAGE_BYTES_MAX) throw new Error(`a message of ${length} bytes`)
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await line.read(length))) as Json
}

/** Proves the swarm secret where the swarm has one, and checks the node's own proof. */
async function getIn(line: Line, { ask }: Peer): Promise<boolean> {
  const { result: hello } = await ask('HELLO', {})
  if (hello['secret'] !== true) return false
  const secret = process.env['KOINON_SWARM_SECRET'] ?? ''
  const nonce = randomBytes(32)
  const macOf = (role: string): string => {
    const words = ['koinon-swarm/1', role, line.self, line.peer].map(word => new TextEncoder().encode(word))
    const parts = prefixed(...words, nonce, Buffer.from(String(hello['nonce']), 'hex'))
    return createHmac('sha256', secret).update(parts).digest('hex')
  }
  const { result } = await ask('AUTH', { nonce: nonce.toString('hex'), mac: macOf('dialler') })
  if (result['mac'] !== macOf('listener')) throw new Error('the node does not know the secret')
  return true
}

const LEAF_BYTES = 16 * 1024
const PIECE_LEAVES = 64

function sha256(...parts: readonly Uint8Array[]): Bytes {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return join(hash.digest())
}

/** Whether the piece is the file's: its own tree, then the hashes beside it up to the root. */
function isPiece(
  file: Json,
  piece: { readonly index: number; readonly bytes: Bytes; readonly proof: readonly string[] },
): boolean {
  const leaves: Bytes[] = []
  for (let at = 0; at < piece.bytes.byteLength; at += LEAF_BYTES)
    leaves.push(sha256(piece.bytes.subarray(at, at + LEAF_BYTES)))
  const full = Number(file['piece_count']) > 1 ? PIECE_LEAVES : 2 ** Math.ceil(Math.log2(leaves.length))
  while (leaves.length < full) leaves.push(new Uint8Array(32))
  let level = leaves
  while (level.length > 1) {
    const parents: Bytes[] = []
    for (let i = 0; i < level.length; i += 2)
      parents.push(sha256(level[i] ?? new Uint8Array(0), level[i + 1] ?? new Uint8Array(0)))
    level = parents
  }
  let [hash = new Uint8Array(0)] = level
  for (const [i, sibling] of piece.proof.entries()) {
    const other = join(Buffer.from(sibling, 'hex'))
    hash = (piece.index >> i) % 2 === 1 ? sha256(other, hash) : sha256(hash, other)
  }
  return Buffer.from(hash).toString('hex') === file['file']
}

await main(address =>
  withLine(address, '/json-message/1.0', async line => {
    const peer = peerOf(line)
    const isProved = await getIn(line, peer)
    const { result: capabilities } = await peer.ask('GET_CAPABILITIES', {})
    const { result: found } = await peer.ask('FIND_NODES', { count: 5 })
    const { result: list } = await peer.ask('LIST_FILES', {})
    const [file] = list['files'] as readonly Json[]
    if (file === undefined) throw new Error('the node shares no file')
    const index = Number(file['piece_count']) - 1
    const { result: facts, attachment } = await peer.ask('REQUEST_PIECE', { file: file['file'], piece: index })
    const piece = { index, bytes: attachment, proof: facts['proof'] as readonly string[] }
    const task = { kind: 'completion', prompt: 'Once upon a time there was a fox.', max_tokens: 8, temperature: 0 }
    const { result: answer, events } = await peer.ask('EXECUTE_TASK', task)
    const streamed = events.map(event => String(event['text'])).join('')
    const badPiece = { ...piece, bytes: piece.bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte)) }
    return {
      peer: line.peer,
      isProved,
      capabilities,
      nodes: found['nodes'],
      piece: {
        file: file['file'],
        index,
        bytes: attachment.byteLength,
        isVerified: isPiece(file, piece) && !isPiece(file, badPiece),
      },
      task: { text: answer['text'], isStreamed: streamed === answer['text'], usage: answer['usage'] },
    }
  }),
)
