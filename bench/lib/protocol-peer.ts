/**
 * The other side of the protocol benchmark, in a process of its own: a host, and beside it a bare libp2p node with the
 * same transport, encryption and multiplexer, and libp2p as it comes. All serve the same things: steps of a real stage
 * engine, and a sink for bulk. Prints its addresses, and ends when its standard input does.
 */
import { formatLayers, silentLogger, systemClock, systemRandom } from '#base'
import { createStageEngine, type StageEngine } from '#engine'
import { createNodeIdentity } from '#identity'
import { createHost } from '#net'
import { CommandRegistry, defineCommand, Dispatcher, Penalties, PenaltyRecords, RateLimits, Requester } from '#protocol'
import { PROTOCOLS } from '#wire'
import { z } from 'zod'
import { NetStream } from '../../src/net/byte-stream.ts'
import { createNode } from '../../src/net/libp2p.ts'
import { CommandLink } from '../../src/node/command-link.ts'
import { hostDeps } from '../../test/support/net-hosts.ts'
import { ByteReader } from './byte-reader.ts'
import { readModel } from './model.ts'
import { createRawLibp2p, RAW_PROTOCOL, rawWay, type Way } from './raw-stream.ts'

export const BARE_PROTOCOL = '/koinon-bench/bare/1'
/** First byte of a stream: what it is for. */
export const FOR_STEPS = 1
export const FOR_BULK = 2

const ROW_NUMBER_BYTES = 4
const LISTEN = '/ip4/127.0.0.1/tcp/0'

/** A command that answers at once: what is left is the protocol. */
export const NOTHING = defineCommand({
  type: 64,
  name: 'NOTHING',
  request: z.object({ number: z.int() }),
  response: z.object({ number: z.int() }),
  cost: 1,
  rate: { perSecond: 1e6, burst: 1e6 },
  right: 'member',
  deadlineMs: 10_000,
  priority: 'normal',
  handle: async ({ number }) => ({ body: { number } }),
})

/** Commands over a host, as a node has them, with nothing registered but `NOTHING` and no limit in the way. */
export function commandsOver(host: Awaited<ReturnType<typeof createHost>>): {
  link: CommandLink
  requester: Requester
} {
  const deps = { clock: systemClock, random: systemRandom, log: silentLogger }
  const registry = new CommandRegistry()
  registry.register(NOTHING, { isPlugin: true })
  const audit = { record: () => undefined }
  const store = { load: () => [], save: () => undefined, remove: () => undefined }
  const penalties = new Penalties({ ...deps, audit, records: new PenaltyRecords({ ...deps, store }) })
  const unlimited = { tokensMax: 1e9, perSecond: 1e9 }
  const limiter = new RateLimits(deps, { requests: unlimited, bytes: unlimited })
  const dispatcher = new Dispatcher({ ...deps, audit, registry, limiter, penalties })
  const requester = new Requester({ ...deps, penalties })
  const refuse = (): never => {
    throw new Error('nothing here has an attachment')
  }
  const transfers = { offer: refuse, receive: refuse, decline: refuse, withdraw: refuse, withdrawAll: () => undefined }
  const link = new CommandLink({
    ...deps,
    host,
    registry,
    dispatcher,
    requester,
    transfers,
    limiter,
    penalties,
    isTrusted: () => false,
  })
  return { link, requester }
}

async function serve(stream: Way, steps: StepServer): Promise<void> {
  const reader = new ByteReader(stream)
  const purpose = (await reader.take(1))[0]
  if (purpose === FOR_STEPS) await steps.serve(stream, reader)
  else await sink(stream, reader)
}

/** Reads as many bytes as it is told, and says so with one byte, again and again. */
async function sink(stream: Way, reader: ByteReader): Promise<void> {
  for (;;) {
    const size = new DataView((await reader.take(8)).slice().buffer).getFloat64(0)
    await reader.skip(size)
    stream.send(Uint8Array.of(1))
  }
}

class StepServer {
  readonly #engine: StageEngine
  readonly #rowBytes: number
  readonly #layers: { readonly first: number; readonly last: number }
  readonly #contextMax: number
  #position = 0

  constructor(
    engine: StageEngine,
    facts: { rowBytes: number; layers: { first: number; last: number }; contextMax: number },
  ) {
    this.#engine = engine
    this.#rowBytes = facts.rowBytes
    this.#layers = facts.layers
    this.#contextMax = facts.contextMax
  }

  async serve(stream: Way, reader: ByteReader): Promise<void> {
    for (;;) {
      const rows = await reader.take(this.#rowBytes)
      const step = { slot: 0, layers: this.#layers, position: this.#position, count: 1, outputs: 1, rows }
      this.#position = (this.#position + 1) % this.#contextMax
      if (!stream.send(await this.#engine.step(step))) await stream.drained()
    }
  }
}

async function main(): Promise<void> {
  const [file = '', contextMax = '256'] = process.argv.slice(2)
  const model = await readModel(file)
  const engine = createStageEngine({ clock: systemClock, log: silentLogger }, { threads: 1, device: 'cpu' })
  const layers = { first: 0, last: Math.ceil(model.config.layerCount / 2) }
  await engine.load({ file: model.file, layers, slots: 1, contextMax: Number(contextMax) })
  const rowBytes = model.config.width * ROW_NUMBER_BYTES
  const steps = new StepServer(engine, { rowBytes, layers, contextMax: Number(contextMax) })
  const quietly = (serving: Promise<void>): Promise<void> => serving.catch(() => undefined)

  const host = await createHost(await hostDeps(), { listen: [LISTEN], mdns: false })
  commandsOver(host)
  host.handle(PROTOCOLS.stage, stream => quietly(serve(stream, steps)))
  await host.start()

  const bare = await createNode({
    key: (await createNodeIdentity(systemRandom)).privateKey,
    listen: [LISTEN],
    mdns: false,
    refusesInbound: () => false,
    onConnection: () => undefined,
    onFound: () => undefined,
  })
  await bare.libp2p.handle(BARE_PROTOCOL, (stream, connection) => {
    const peer = connection.remotePeer.toString()
    void quietly(serve(new NetStream({ clock: systemClock }, { stream, peer }), steps))
  })
  await bare.libp2p.start()
  const raw = await createRawLibp2p([LISTEN])
  await raw.handle(RAW_PROTOCOL, stream => void quietly(serve(rawWay(stream), steps)))
  const facts = {
    host: host.addresses()[0],
    bare: `${bare.listening()[0]?.toString()}/p2p/${bare.libp2p.peerId.toString()}`,
    raw: raw.getMultiaddrs()[0]?.toString(),
    rowBytes,
    layers: formatLayers(layers),
  }
  process.stdout.write(`${JSON.stringify(facts)}\n`)
  process.stdin
    .on(
      'end',
      () => void Promise.all([host.stop(), bare.stop(), raw.stop(), engine.stop()]).then(() => process.exit(0)),
    )
    .resume()
}

if (import.meta.main) await main()
