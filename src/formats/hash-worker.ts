/** A thread that hashes runs of a file's pieces until none is left. */
import { readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { messageOf } from '#base'
import type { HashAnswer, HashTask } from './hash-calls.ts'
import { HASH_RUN_PIECES } from './limits.ts'
import {
  HASH_BYTES,
  leafHashes,
  PIECE_BYTES,
  PIECE_LEAVES,
  pieceBytes,
  pieceCount,
  pieceHashOfLeaves,
} from './pieces.ts'

const { descriptor, size, ...shared } = workerData as HashTask
const next = new Int32Array(shared.next)
const layer = new Uint8Array(shared.layer)
const leaves = new Uint8Array(shared.leaves)
const buffer = new Uint8Array(PIECE_BYTES)
const say = (answer: HashAnswer): void => parentPort?.postMessage(answer, [])

try {
  hashRuns()
} catch (error) {
  say({ kind: 'failed', reason: messageOf(error) })
}

function hashRuns(): void {
  const count = pieceCount(size)
  for (;;) {
    const first = Atomics.add(next, 0, HASH_RUN_PIECES)
    // Negative: far beyond the end, where a stopped count has gone round.
    if (first >= count || first < 0) return
    let bytes = 0
    for (let piece = first; piece < Math.min(count, first + HASH_RUN_PIECES); piece++) {
      const filled = fill(piece)
      if (filled < pieceBytes(size, piece)) {
        say({ kind: 'short', size: piece * PIECE_BYTES + filled })
        return
      }
      const hashes = leafHashes(buffer.subarray(0, filled))
      leaves.set(hashes, piece * PIECE_LEAVES * HASH_BYTES)
      layer.set(pieceHashOfLeaves(hashes, size), piece * HASH_BYTES)
      bytes += filled
    }
    say({ kind: 'run', bytes })
  }
}

/** @returns bytes of the piece that are in the buffer now */
function fill(piece: number): number {
  const length = pieceBytes(size, piece)
  let done = 0
  while (done < length) {
    const read = readSync(descriptor, buffer, done, length - done, piece * PIECE_BYTES + done)
    if (read === 0) break
    done += read
  }
  return done
}
