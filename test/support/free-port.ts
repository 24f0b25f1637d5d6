/**
 * Ports of loopback that are free and stay so: below those that the system gives out by itself, from a block that no
 * other process of the tests has, and never the same one twice.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

/** Linux gives out ports from 32768 on (`ip_local_port_range`), others from 49152 on. */
const [PORT_MIN, PORT_END] = [10_240, 32_000]
const BLOCK_PORTS = 64
const BLOCKS = (PORT_END - PORT_MIN) / BLOCK_PORTS

let left: readonly number[] = []
let claimed = 0

/** A number that neither TCP nor UDP has in use here, for what cannot be told to take any. */
export async function freePort(): Promise<number> {
  for (;;) {
    const [port, ...rest] = left
    if (port === undefined) {
      await claimBlock()
      continue
    }
    left = rest
    if (await isFree(port)) return port
  }
}

/** Whoever listens at the first port of a block has the others, as long as its process lives. */
async function claimBlock(): Promise<void> {
  for (; claimed < BLOCKS; claimed++) {
    const first = PORT_MIN + ((process.pid + claimed) % BLOCKS) * BLOCK_PORTS
    const guard = await listening(first, '127.0.0.1')
    if (guard === undefined) continue
    guard.unref()
    claimed++
    left = [...left, ...Array.from({ length: BLOCK_PORTS - 1 }, (_, index) => first + 1 + index)]
    return
  }
  throw new Error('the tests have used up the ports that are theirs')
}

async function isFree(port: number): Promise<boolean> {
  const server = await listening(port, '0.0.0.0')
  if (server === undefined) return false
  const socket = createSocket('udp4')
  try {
    socket.bind(port)
    await once(socket, 'listening')
    return true
  } catch {
    return false
  } finally {
    await Promise.all([
      new Promise(resolve => socket.close(resolve as () => void)),
      new Promise(resolve => server.close(resolve)),
    ])
  }
}

async function listening(port: number, host: string): Promise<Server | undefined> {
  const server = createServer().listen(port, host)
  try {
    await once(server, 'listening')
    return server
  } catch {
    return undefined
  }
}
