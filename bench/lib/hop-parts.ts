/**
 * Where a hop's time goes: the two crossings that can be measured alone, between processes that do nothing else. What a
 * hop takes beyond them is wake-ups, and code that runs cold after a step of the model has used all caches
 * (docs/decisions/0003).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type ByteStream, silentLogger, systemClock, systemRandom, toHex } from '#base'
import { createEdgeEngine } from '#engine'
import { createHost } from '#net'
import { PROTOCOLS } from '#wire'
import type { BenchModel } from './model.ts'
import { hostDeps } from '../../test/support/net-hosts.ts'
import { median } from './report.ts'

export type HopParts = {
  /** Into an engine child and back with an empty command: one crossing for each hop. */
  readonly hop_pipe_ms: number
  /** One way over a connection between two processes, with one row of the model. */
  readonly hop_wire_ms: number
}

const CALLS = 500
const ECHO = fileURLToPath(new URL('../../test/support/net-child.ts', import.meta.url))
/** What the echoing process admits by. */
const SECRET = new TextEncoder().encode('across processes')

export async function measureHopParts(model: BenchModel): Promise<HopParts> {
  return { hop_pipe_ms: await measurePipe(model), hop_wire_ms: await measureWire(4 * model.config.width) }
}

async function medianOf(call: () => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let i = 0; i < CALLS; i++) {
    const startedAt = performance.now()
    await call()
    times.push(performance.now() - startedAt)
  }
  return median(times)
}

async function measurePipe(model: BenchModel): Promise<number> {
  const edge = createEdgeEngine({ clock: systemClock, log: silentLogger }, { threads: 1, device: 'cpu' })
  try {
    await edge.load({ file: model.file })
    return await medianOf(() => edge.tokenize('a', { addSpecial: false, parseSpecial: false }))
  } finally {
    await edge.stop()
  }
}

async function measureWire(rowBytes: number): Promise<number> {
  const child = spawn(process.execPath, [ECHO, toHex(systemRandom.bytes(32))], { stdio: ['pipe', 'pipe', 'inherit'] })
  const host = await createHost(await hostDeps(), { listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false, secret: SECRET })
  try {
    await host.start()
    const stream = await host.open(await host.connect(await addressOf(child)), PROTOCOLS.stage)
    const received = stream.received[Symbol.asyncIterator]()
    const row = new Uint8Array(rowBytes)
    return (await medianOf(() => echo(stream, received, row))) / 2
  } finally {
    await host.stop()
    child.stdin?.end()
    await once(child, 'exit')
  }
}

async function addressOf(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new TypeError('the process has no standard output')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return line
}

async function echo(stream: ByteStream, received: AsyncIterator<Uint8Array>, row: Uint8Array): Promise<void> {
  if (!stream.send(row)) await stream.drained()
  for (let bytes = 0; bytes < row.byteLength; ) {
    const { value, done } = await received.next()
    if (done === true) throw new Error('the echo ended')
    bytes += value.byteLength
  }
}
