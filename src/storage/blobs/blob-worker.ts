/**
 * The thread that verifies blocks and writes them. SHA-256 and the copy into the file would leave the node's own thread no
 * time for the network: at 1 GB/s they take all of a core.
 */
import { parentPort } from 'node:worker_threads'
import { assert, messageOf } from '#base'
import type { BlobAnswers, BlobCall, BlobReply, BlobReplies, BlobRequest } from './blob-calls.ts'
import { BlobFile } from './blob-file.ts'
import { BlobOrder, isLarge } from './blob-order.ts'

const files = new Map<number, BlobFile>()
/** Of each blob that is open. */
const orders = new Map<number, BlobOrder>()

parentPort?.on('message', (requests: readonly BlobRequest[]) => {
  const replies: (BlobReply | Promise<BlobReply>)[] = []
  const buffers: ArrayBuffer[] = []
  for (const request of requests) {
    if (request.call.kind === 'sync')
      void sync(request) // Answers by itself; never rejects.
    else replies.push(reply(request))
    if (request.call.kind === 'write') for (const { bytes } of request.call.write.parts) buffers.push(bytes.buffer)
  }
  void Promise.all(replies.map(reply => Promise.resolve(reply))).then(settled =>
    say({ isTurn: true, replies: settled, buffers }),
  ) // Never rejects.
})

function say(answer: BlobReplies): void {
  parentPort?.postMessage(answer, [...answer.buffers])
}

type Answer = BlobAnswers[BlobCall['kind']]

function reply({ id, blob, call }: BlobRequest): BlobReply | Promise<BlobReply> {
  const failed = (error: unknown): BlobReply => ({ id, error: messageOf(error) })
  try {
    const begin = (): Answer | Promise<Answer> => answer(blob, call)
    const answered = orders.get(blob)?.run(call, begin) ?? begin()
    return answered instanceof Promise ? answered.then(answer => ({ id, answer }), failed) : { id, answer: answered }
  } catch (error) {
    return failed(error)
  }
}

function answer(id: number, call: BlobCall): Answer | Promise<Answer> {
  if (call.kind === 'open') {
    const opened = new BlobFile(call.options)
    files.set(id, opened)
    orders.set(id, new BlobOrder())
    return opened.state
  }
  const file = fileOf(id)
  switch (call.kind) {
    case 'nodes':
      file.putNodes(call.runs)
      return undefined
    case 'leaves':
      return file.putLeaves(call.piece, call.leaves) === undefined
    case 'leaves-of':
      return file.leavesOf(call.piece, call.pieceHash)
    case 'write':
      return isLarge(call.write) ? file.writeAside(call.write) : file.write(call.write)
    case 'drop':
      return file.drop(call.pieces)
    case 'check':
      return file.check(call.piece, call.pieceHash)
    case 'remove':
      forget(id)
      return file.remove()
    default:
      forget(id)
      file.close()
      return undefined
  }
}

/** Takes as long as the disk does; what is written meanwhile does not wait for it. */
async function sync({ id, blob }: BlobRequest): Promise<void> {
  try {
    await fileOf(blob).sync()
    say({ isTurn: false, replies: [{ id, answer: undefined }], buffers: [] })
  } catch (error) {
    say({ isTurn: false, replies: [{ id, error: messageOf(error) }], buffers: [] })
  }
}

function forget(id: number): void {
  files.delete(id)
  orders.delete(id)
}

function fileOf(id: number): BlobFile {
  const file = files.get(id)
  assert(file !== undefined, 'a call for a blob that is not open')
  return file
}
