/** A TCP socket as the bytes below a connection. */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { StreamError } from '#base'
import type { BytePipe } from '../adopt.ts'

/** The socket belongs to the pipe from now on. */
export function pipeOfSocket(socket: Socket): BytePipe {
  socket.setNoDelay(true)
  socket.on('error', () => undefined) // The reader hears of it; a socket without a listener would end the process.
  const gone = (cause?: unknown): StreamError =>
    new StreamError({ code: 'STREAM_RESET' }, 'the socket is gone', { cause })
  return {
    send: bytes => {
      if (!socket.writable) throw gone()
      return socket.write(bytes)
    },
    drained: async () => {
      if (socket.destroyed) throw gone()
      if (!socket.writableNeedDrain) return
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const onDrain = (): void => resolve()
      const onClose = (): void => reject(gone())
      socket.once('drain', onDrain).once('close', onClose)
      await promise.finally(() => socket.off('drain', onDrain).off('close', onClose))
    },
    received: socket,
    close: async () => {
      if (socket.destroyed || socket.writableFinished) return
      const finished = once(socket, 'finish')
      socket.end()
      await finished.catch(gone)
    },
    abort: () => void socket.resetAndDestroy(),
  }
}
