/**
 * A thread of an engine child that does nothing but wait for the end of a pipe that only the node holds open. When the
 * node is gone, however it went, the child must go too, and at once: its main thread may be in the middle of a long
 * computation and would keep the memory of a whole model for as long.
 */
import { Socket } from 'node:net'
import { workerData } from 'node:worker_threads'

const pipe = new Socket({ fd: Number(workerData), readable: true, writable: false })
const end = (): void => void process.kill(process.pid, 'SIGKILL')
pipe.on('end', end).on('error', end).resume()
