/** Datagrams in memory: sockets that reach one another by address, and a clock that a test drives while it waits. */
import { ManualClock, type Random, seededRandom, silentLogger } from '#base'
import {
  createMainlineNode,
  type DatagramSocket,
  type DatagramSockets,
  type Endpoint,
  type MainlineNode,
  type MainlineOptions,
} from '#mainline'

type Listener = (bytes: Uint8Array, from: Endpoint) => void

/** Nodes, their sockets, and whatever else a test listens with. */
export type MemoryNetwork = {
  readonly clock: ManualClock
  readonly random: Random
  /** While true, nothing arrives anywhere. */
  isDown: boolean
  /** A socket of the test's own. */
  socket(local: Endpoint): DatagramSocket
  /** A node at these addresses, started. */
  node(locals: readonly Endpoint[], options?: MainlineOptions): Promise<MainlineNode>
  /** Waits for a promise while time goes on. */
  settle<T>(promise: Promise<T>): Promise<T>
  /** Lets everything arrive that is on its way. */
  quiet(): Promise<void>
}

const STEP_MS = 20

export function createMemoryNetwork(seed: number): MemoryNetwork {
  const clock = new ManualClock(1_000_000)
  const random = seededRandom(seed)
  const listeners = new Map<string, Listener>()
  const name = ({ host, port }: Endpoint): string => `${host} ${port}`

  const socket = (local: Endpoint): DatagramSocket => ({
    local,
    send: (bytes, to) => {
      if (network.isDown) return
      const copy = bytes.slice()
      clock.after(1 + (random.uint32() % 10), () => listeners.get(name(to))?.(copy, local))
    },
    onMessage: listener => void listeners.set(name(local), listener),
    close: () => {
      listeners.delete(name(local))
      return Promise.resolve()
    },
  })

  const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

  const network: MemoryNetwork = {
    clock,
    random,
    isDown: false,
    socket,
    node: async (locals, options = {}) => {
      const sockets: DatagramSockets = {
        open: () => Promise.resolve(locals.map(socket)),
        resolve: host => Promise.resolve([host]),
      }
      const node = createMainlineNode({ clock, random, log: silentLogger, sockets }, options)
      await node.start()
      return node
    },
    settle: async promise => {
      let isOver = false
      const over = (): void => {
        isOver = true
      }
      promise.then(over, over)
      while (!isOver) {
        await turn()
        if (!isOver) clock.advance(STEP_MS)
      }
      return promise
    },
    quiet: async () => {
      for (let i = 0; i < 10; i++) {
        clock.advance(STEP_MS)
        await turn()
      }
    },
  }
  return network
}
