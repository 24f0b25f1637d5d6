import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { systemClock, systemRandom } from '#base'
import { freePort } from '../../../test/support/free-port.ts'
import { type OpenOptions, openPunched } from './tcp-open.ts'

const HOST = '127.0.0.1'
const deps = { clock: systemClock }
const [WORD_A, WORD_B] = [systemRandom.bytes(16), systemRandom.bytes(16)]
const servers: Server[] = []

after(() => {
  for (const server of servers) server.close()
})

function portOf(server: Server): number {
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  return address.port
}

async function listening(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer(socket => {
    socket.on('error', () => undefined)
    onSocket(socket)
  }).listen(0, HOST)
  servers.push(server)
  await once(server, 'listening')
  return portOf(server)
}

function side(localPort: number, isA: boolean, signal = AbortSignal.timeout(10_000)): OpenOptions {
  const [say, hear] = isA ? [WORD_B, WORD_A] : [WORD_A, WORD_B]
  return { localPort, isIpv6: false, say, hear, chooses: isA, signal }
}

const to = (...ports: number[]) => ports.map(port => ({ address: HOST, port }))

describe('net / punch / TCP from both sides', () => {
  // On loopback a call is answered before the system call returns, so two never cross: the lab shows that they do elsewhere.
  it('connects two sides that call each other, the later of which also listens', async () => {
    const [portA, portB] = [await freePort(), await freePort()]
    const [a, b] = await Promise.all([
      openPunched(deps, { targets: to(portB), listens: false, redials: true }, side(portA, true)),
      openPunched(deps, { targets: to(portA), listens: true, redials: false }, side(portB, false)),
    ])
    assert.deepEqual([a.from.port, b.from.port], [portB, portA])
    // Words that were exchanged are not left for the next reader.
    a.socket.write('hello')
    const [heard] = (await once(b.socket, 'data')) as [Buffer]
    assert.equal(heard.toString(), 'hello')
    for (const { socket } of [a, b]) socket.destroy()
  })

  it('takes the call of a side whose port nobody knew, where it listens', async () => {
    const [portA, portB, wrong] = [await freePort(), await freePort(), await freePort()]
    const [a, b] = await Promise.all([
      openPunched(deps, { targets: to(wrong), listens: true, redials: false }, side(portA, true)),
      openPunched(deps, { targets: to(portA), listens: false, redials: true }, side(portB, false)),
    ])
    assert.deepEqual([a.from.port, b.from.port], [portB, portA])
    for (const { socket } of [a, b]) socket.destroy()
  })

  it('leaves strangers who answer with another word, or with none, and tells them nothing but a word', async () => {
    const said: Buffer[] = []
    const talker = await listening(socket => {
      socket.on('data', (bytes: Buffer) => said.push(bytes))
      socket.write(systemRandom.bytes(400))
    })
    const silent = await listening(socket => void socket.on('data', (bytes: Buffer) => said.push(bytes)))
    const [portA, portB] = [await freePort(), await freePort()]
    const [a, b] = await Promise.all([
      openPunched(deps, { targets: to(talker, silent, portB), listens: false, redials: true }, side(portA, true)),
      openPunched(deps, { targets: to(portA), listens: true, redials: false }, side(portB, false)),
    ])
    assert.deepEqual([a.from.port, b.from.port], [portB, portA])
    for (const bytes of said) assert.equal(bytes.byteLength % WORD_B.byteLength, 0)
    for (const { socket } of [a, b]) socket.destroy()
  })

  it('gives up where nobody is there, after a bounded number of calls, and with the signal', async () => {
    const [portA, nobody] = [await freePort(), await freePort()]
    const plan = { targets: to(nobody), listens: false, redials: false }
    await assert.rejects(openPunched(deps, plan, side(portA, true)), /every call was refused/)
    const ending = new AbortController()
    const opening = openPunched(deps, { targets: [], listens: true, redials: false }, side(portA, true, ending.signal))
    ending.abort(new Error('enough'))
    await assert.rejects(opening, /enough/)
  })

  it('closes what called beside the socket that is used', async () => {
    const [portA, portB] = [await freePort(), await freePort()]
    const opening = openPunched(deps, { targets: [], listens: true, redials: false }, side(portA, true))
    const calling = openPunched(deps, { targets: to(portA), listens: false, redials: true }, side(portB, false))
    const [a, b] = await Promise.all([opening, calling])
    const late = connect({ host: HOST, port: portA })
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException]
    assert.equal(error.code, 'ECONNREFUSED')
    for (const { socket } of [a, b]) socket.destroy()
  })
})
