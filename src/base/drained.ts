/** What of a socket of `node:net` it takes to wait until it takes more. */
type Drainable = {
  readonly writableNeedDrain: boolean
  readonly destroyed: boolean
  once(event: 'drain' | 'close', listener: () => void): unknown
  off(event: 'drain' | 'close', listener: () => void): unknown
}

/** Resolves when a socket has room again, or is gone; at once where it has. */
export async function drainedOrGone(socket: Drainable): Promise<void> {
  if (!socket.writableNeedDrain || socket.destroyed) return
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.once('drain', resolve)
  socket.once('close', resolve)
  await promise
  socket.off('drain', resolve)
  socket.off('close', resolve)
}
