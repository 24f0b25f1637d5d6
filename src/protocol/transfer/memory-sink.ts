/** Collects a small attachment in memory. */
import { equalInConstantTime, Sha256 } from '#crypto'
import { attachmentOfParts } from './attachments.ts'
import type { TransferContent, TransferSink } from './types.ts'

/** @param onReleased called once, when the memory is given back: after `suspend`, `discard`, or the result's release */
export function createMemorySink(content: TransferContent, onReleased: () => void): TransferSink {
  const chunks: Uint8Array[] = []
  const hash = new Sha256()
  let kept = 0
  let status: 'open' | 'broken' | 'ended' = 'open'
  const drop = (): Promise<void> => {
    chunks.length = 0
    if (status !== 'ended') onReleased()
    status = 'ended'
    return Promise.resolve()
  }
  return {
    get keptBytes() {
      return kept
    },
    append: (chunk, check) => {
      if (status !== 'open') return Promise.resolve(false)
      hash.update(chunk)
      const isRight = check === undefined || equalInConstantTime(check, hash.snapshot().subarray(0, check.byteLength))
      if (!isRight) {
        status = 'broken'
        return Promise.resolve(false)
      }
      chunks.push(chunk)
      kept += chunk.byteLength
      return Promise.resolve(true)
    },
    finish: async () => {
      if (status === 'ended') return undefined
      const sha256 = hash.digest()
      if (kept === content.sizeBytes && equalInConstantTime(sha256, content.sha256)) {
        status = 'ended'
        return attachmentOfParts(chunks, { sha256, onRelease: onReleased })
      }
      await drop()
      return undefined
    },
    suspend: drop,
    discard: drop,
  }
}
