/** Reads a stream's frames to its end, and ends a stream without losing what was written to it. */
import { type ByteStream, type Clock, withDeadline } from '#base'
import { type StageFrameFault, StageFrameReader, type StageFrameSink } from '#wire'
import { STOP_MS_MAX } from './limits.ts'

/**
 * Resolves when the other side has closed its direction, or with the fault that makes the rest unreadable. Rejects on
 * a reset.
 */
export async function readFrames(stream: ByteStream, sink: StageFrameSink): Promise<StageFrameFault | undefined> {
  const reader = new StageFrameReader(sink)
  for await (const piece of stream.received) {
    const fault = reader.push(piece)
    if (fault !== undefined) return fault
  }
  return undefined
}

/** Lets what was written arrive, for a moment, then ends both directions. Never rejects. */
export async function endStream(clock: Clock, stream: ByteStream): Promise<void> {
  try {
    await withDeadline(clock, { what: 'closing a stream', timeoutMs: STOP_MS_MAX }, () => stream.close())
  } catch {
    // It is gone already or does not answer: either way it is aborted next.
  }
  stream.abort(new Error('the stream is not needed any more'))
}
