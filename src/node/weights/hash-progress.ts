/** Bytes that were read, told as a rate and an ETA. */
import type { Clock } from '#base'
import type { TransferProgress } from '#wire'

/** @returns takes bytes read so far, and in all */
export function createHashProgress(
  clock: Pick<Clock, 'monotonic'>,
  onProgress: (progress: TransferProgress) => void,
): (doneBytes: number, totalBytes: number) => void {
  const startedAt = clock.monotonic()
  return (doneBytes, totalBytes) => {
    const seconds = (clock.monotonic() - startedAt) / 1000
    const rate = seconds > 0 ? doneBytes / seconds : 0
    onProgress({
      phase: 'hashing',
      doneBytes,
      totalBytes,
      rate,
      ...(rate > 0 ? { etaS: (totalBytes - doneBytes) / rate } : {}),
      sources: 0,
      peers: 0,
    })
  }
}
