/**
 * A peer of the systems before: fetches the first and the last pieces of a file by `/torrent/1.0`, checks them against the
 * file's hashes, and reads the node's counters by `/metrics/1.0`. Prints what it got.
 *
 *     node test/peers/older-only.ts ADDRESS
 */
import { createHash } from 'node:crypto'
import { main, withLine } from './dial.ts'

type FileList = {
  readonly FileList: { readonly files: readonly { info_hash: string; filename: string; size: number }[] }
}
type Metadata = { readonly Metadata: { readonly metadata: { piece_size: number; pieces: readonly string[] } } }
type PieceData = { readonly PieceData: { readonly data: readonly number[] } }

/** One question on a stream of its own: JSON, the end, JSON, the end. */
function ask<T>(address: string, protocol: string, question: unknown): Promise<T> {
  return withLine(address, protocol, async line => {
    if (question !== undefined) line.send(new TextEncoder().encode(JSON.stringify(question)))
    await line.end()
    return JSON.parse(new TextDecoder().decode(await line.rest())) as T
  })
}

await main(async address => {
  const torrent = <T>(question: unknown): Promise<T> => ask<T>(address, '/torrent/1.0', question)
  const [file] = (await torrent<FileList>('ListFiles')).FileList.files
  if (file === undefined) throw new Error('the node shares nothing')
  const { info_hash } = file
  const { pieces } = (await torrent<Metadata>({ RequestMetadata: { info_hash } })).Metadata.metadata
  let isVerified = true
  for (const piece_index of [0, pieces.length - 1]) {
    const { data } = (await torrent<PieceData>({ RequestPiece: { info_hash, piece_index } })).PieceData
    const hash = createHash('sha256').update(Buffer.from(data)).digest('hex')
    isVerified &&= hash === pieces[piece_index]
  }
  const { metrics } = await ask<{ readonly metrics: object }>(address, '/metrics/1.0', undefined)
  return { file: { ...file, isVerified }, metrics }
})
