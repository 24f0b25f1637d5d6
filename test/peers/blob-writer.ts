/**
 * Writes a file into a blob store until it is killed, or the disk is full. Says "piece block count" after each write that
 * was answered. Arguments: the store's directory, the file, a seed, and after how many answers it waits until its standard
 * input ends.
 */
import { Bitfield, seededRandom, systemClock, systemRandom } from '#base'
import { hashSource, memorySource } from '#formats'
import { openBlobStore } from '#storage'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'

const [directory = '', path = '', seed = '1', answersMax = '1e9'] = process.argv.slice(2)
const BLOCK = 16 * 1024
const bytes = new Uint8Array(await readFile(path))
const { tree, leaves } = await hashSource(memorySource(bytes))
const store = await openBlobStore({ clock: systemClock, random: systemRandom }, { directory })
const blob = await store.open({ root: tree.root, length: tree.size })
blob.putHashes({ first: 0, hashes: tree.layer(0, tree.count), proof: new Uint8Array(0) })
process.stdout.write('ready\n')
const random = seededRandom(Number(seed))
let answers = 0
for (let at = 0; at < 100_000; at++) {
  const piece = random.uint32() % tree.count
  if (blob.has.has(piece)) continue
  blob.putLeaves(piece, leaves.subarray(piece * 2048, (piece + 1) * 2048))
  const blockCount = Math.min(1 + (random.uint32() % 8), Math.ceil((tree.size - piece * 64 * BLOCK) / BLOCK))
  const firstBlock =
    random.uint32() % (Math.min(64, Math.ceil((tree.size - piece * 64 * BLOCK) / BLOCK)) - blockCount + 1)
  const start = (piece * 64 + firstBlock) * BLOCK
  const result = await blob.write({ piece, firstBlock, blockCount }, bytes.slice(start, start + blockCount * BLOCK))
  process.stdout.write(result.kind === 'kept' ? `${piece} ${firstBlock} ${blockCount}\n` : `${result.kind}\n`)
  if (result.kind === 'full') break
  if (++answers === Number(answersMax)) await once(process.stdin.resume(), 'end')
}
// Space is made, and it goes on.
await blob.drop(Bitfield.full(blob.pieceCount))
const result = await blob.write({ piece: 0, firstBlock: 0, blockCount: 64 }, bytes.slice(0, 64 * BLOCK))
process.stdout.write(`after: ${result.kind} ${blob.has.count}\n`)
await store.close()
