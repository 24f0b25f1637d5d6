import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, createServer as createRawServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { type Clock, ManualClock, seededRandom, systemClock } from '#base'
import { fetchAll, randomBytes } from '../../../test/support/origin-fetch.ts'
import { SELF_SIGNED } from '../../../test/support/self-signed.ts'
import { SwarmError } from '../errors.ts'
import { ORIGIN_REDIRECTS_MAX, ORIGIN_SKIP_BYTES_MAX, ORIGIN_TRIES_MAX } from '../limits.ts'
import type { Origin } from '../types.ts'
import { createAddressRules, decodeAllowance } from './address-rules.ts'
import { createHttpOrigin, type HttpOriginOptions } from './http.ts'
import type { Resolve } from './http-client.ts'

const FILE = randomBytes(300_000)
const HEAD = 'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-1009/300000\r\n'
const LOOPBACK = ['127.0.0.1']

/** Waits a thousandth of what it is told to where that is a wait between tries; limits on answers stay what they are. */
const hasty: Clock = {
  ...systemClock,
  after: (delayMs, action) => systemClock.after(delayMs < 10_000 ? delayMs / 1_000 : delayMs, action),
}

type Setting = Partial<HttpOriginOptions> & {
  readonly allow?: readonly string[]
  readonly resolve?: Resolve
  readonly clock?: Clock
}

function originAt(t: TestContext, url: string, setting: Setting = {}): Origin {
  const { allow = LOOPBACK, resolve, clock = hasty, ...options } = setting
  const rules = createAddressRules(allow.map(decodeAllowance).filter(entry => entry !== undefined))
  const deps = { clock, random: seededRandom(1), rules, ...(resolve === undefined ? {} : { resolve }) }
  const origin = createHttpOrigin(deps, { url: new URL(url), fileBytes: FILE.byteLength, ...options })
  t.after(() => origin.close())
  return origin
}

type Handler = (incoming: IncomingMessage, outgoing: ServerResponse) => void

async function serve(t: TestContext, handler: Handler, host = '127.0.0.1'): Promise<string> {
  const server = createServer(handler).listen(0, host)
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://${host}:${(server.address() as AddressInfo).port}/m.gguf`
}

/** Whatever comes, these bytes are written to whoever connects. */
async function serveRaw(t: TestContext, talk: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createRawServer(socket => {
    sockets.add(socket)
    socket.on('error', () => undefined) // The other side hangs up on such a server, as it should.
    socket.once('data', () => talk(socket))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/m.gguf`
}

function rangeOf({ headers }: IncomingMessage): { first: number; last: number } {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? assert.fail('a request without a range')
  return { first: Number(first), last: Number(last) }
}

const good: Handler = (incoming, outgoing) => {
  const { first, last } = rangeOf(incoming)
  outgoing.writeHead(206, {
    'Content-Range': `bytes ${first}-${last}/${FILE.byteLength}`,
    'Content-Length': last - first + 1,
    ETag: '"one"',
  })
  outgoing.end(FILE.subarray(first, last + 1))
}

const fails = (origin: Origin, code: string, range = { offset: 10, length: 1_000 }): Promise<void> =>
  assert.rejects(fetchAll(origin, range), error => {
    assert.ok(error instanceof SwarmError, String(error))
    assert.equal(error.code, code, error.message)
    return true
  })

test('ranges come as they were asked for, over one connection', async t => {
  const ports = new Set<number | undefined>()
  const url = await serve(t, (incoming, outgoing) => {
    ports.add(incoming.socket.remotePort)
    assert.equal(incoming.headers['accept-encoding'], 'identity')
    good(incoming, outgoing)
  })
  const origin = originAt(t, url)
  assert.ok((await fetchAll(origin, { offset: 0, length: FILE.byteLength })).equals(FILE))
  for (const offset of [0, 5, 299_000]) {
    assert.deepEqual(await fetchAll(origin, { offset, length: 1_000 }), FILE.subarray(offset, offset + 1_000))
  }
  assert.equal(ports.size, 1)
})

test('a private address is not gone to, by whatever URL', async t => {
  let requests = 0
  const url = new URL(await serve(t, () => requests++))
  const resolve: Resolve = () => Promise.resolve(['127.0.0.1'])
  for (const host of [
    '127.0.0.1',
    '2130706433',
    '0x7f.1',
    '127.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '[64:ff9b::7f00:1]',
    'x.example',
  ]) {
    await fails(originAt(t, `http://${host}:${url.port}/`, { allow: [], resolve }), 'SWARM_ORIGIN_REFUSED')
  }
  assert.equal(requests, 0)
})

test('a name is resolved once, and the connection goes to the very address that was checked', async t => {
  const url = new URL(await serve(t, good))
  const answers = [['10.9.9.9', '127.0.0.1'], ['127.0.0.2']]
  let asked = 0
  const resolve: Resolve = () => Promise.resolve(answers[Math.min(asked++, 1)] ?? [])
  const origin = originAt(t, `http://weights.example:${url.port}/m.gguf`, { resolve })
  assert.equal((await fetchAll(origin, { offset: 0, length: 10 })).byteLength, 10)
  assert.equal((await fetchAll(origin, { offset: 10, length: 10 })).byteLength, 10)
  assert.equal(asked, 1)
})

test('URLs with credentials, of other schemes, and tokens over http are refused', t => {
  for (const url of ['ftp://x.example/a', 'file:///etc/passwd', 'http://u:p@x.example/', 'https://u@x.example/']) {
    assert.throws(() => originAt(t, url), { fault: { code: 'SWARM_ORIGIN_REFUSED' } })
  }
  assert.throws(() => originAt(t, 'http://x.example/', { token: 'secret' }), {
    fault: { code: 'SWARM_ORIGIN_REFUSED' },
  })
})

test('redirects are followed, each checked like the first URL', async t => {
  const target = await serve(t, good)
  const url = await serve(t, (_, outgoing) => outgoing.writeHead(302, { Location: target }).end())
  assert.deepEqual(await fetchAll(originAt(t, url), { offset: 7, length: 100 }), FILE.subarray(7, 107))
  const port = (text: string): string => `127.0.0.1:${new URL(text).port}`
  await fails(
    originAt(t, url, { allow: [port(url)], resolve: () => assert.fail('no name is asked for') }),
    'SWARM_ORIGIN_REFUSED',
  )
  assert.equal(
    (await fetchAll(originAt(t, url, { allow: [port(url), port(target)] }), { offset: 0, length: 9 })).byteLength,
    9,
  )
})

test('redirects to other schemes, with credentials, to nowhere and in circles are refused', async t => {
  for (const [location, code] of [
    ['file:///etc/passwd', 'SWARM_ORIGIN_REFUSED'],
    ['http://user:pass@127.0.0.1/', 'SWARM_ORIGIN_REFUSED'],
    ['http://169.254.169.254/latest/meta-data', 'SWARM_ORIGIN_REFUSED'],
    ['http://[::ffff:10.0.0.1]/', 'SWARM_ORIGIN_REFUSED'],
    ['http://', 'SWARM_ORIGIN_ANSWER'],
  ] as const) {
    await fails(
      originAt(t, await serve(t, (_, outgoing) => outgoing.writeHead(302, { Location: location }).end())),
      code,
    )
  }
  let requests = 0
  const circle: Handler = (_, outgoing) => outgoing.writeHead(307, { Location: `/m.gguf?${requests++}` }).end()
  await fails(originAt(t, await serve(t, circle)), 'SWARM_ORIGIN_ANSWER')
  assert.equal(requests, ORIGIN_REDIRECTS_MAX + 1)
})

test('the end of a chain of redirects is asked at once, until it does not answer any more', async t => {
  const asked: string[] = []
  let isSigned = 1
  const url = await serve(t, (incoming, outgoing) => {
    asked.push(incoming.url ?? '')
    if (incoming.url === '/m.gguf') outgoing.writeHead(302, { Location: `/signed-${isSigned}` }).end()
    else if (incoming.url === `/signed-${isSigned}`) good(incoming, outgoing)
    else outgoing.writeHead(403).end()
  })
  const origin = originAt(t, url)
  const read = (): Promise<Buffer> => fetchAll(origin, { offset: 0, length: 10 })
  await read()
  await read()
  isSigned = 2
  assert.deepEqual(await read(), FILE.subarray(0, 10))
  assert.deepEqual(asked, ['/m.gguf', '/signed-1', '/signed-1', '/signed-1', '/m.gguf', '/signed-2'])
})

test('the token goes to the host that it is for, by https, and not where that redirects to', async t => {
  const seen: (string | undefined)[] = []
  const see =
    (handler: Handler): Handler =>
    (incoming, outgoing) => {
      seen.push(incoming.headers.authorization)
      handler(incoming, outgoing)
    }
  const plain = await serve(t, see(good))
  const secure = async (handler: Handler): Promise<string> => {
    const server = createSecureServer(SELF_SIGNED, see(handler)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    return `https://nobody:${(server.address() as AddressInfo).port}/m.gguf`
  }
  const resolve: Resolve = () => Promise.resolve(['127.0.0.1'])
  const setting = { resolve, ca: SELF_SIGNED.cert, token: 'hf_secret' }
  const cdn = await secure(good)
  const hub = await secure((_, outgoing) => outgoing.writeHead(302, { Location: cdn }).end())
  const origin = originAt(t, hub, setting)
  assert.deepEqual(await fetchAll(origin, { offset: 3, length: 30 }), FILE.subarray(3, 33))
  assert.deepEqual(seen.splice(0), ['Bearer hf_secret', undefined])
  const down = await secure((_, outgoing) => outgoing.writeHead(302, { Location: plain }).end())
  await fails(originAt(t, down, setting), 'SWARM_ORIGIN_REFUSED')
  assert.deepEqual(seen.splice(0), ['Bearer hf_secret'])
  await fails(originAt(t, hub, { resolve, token: 'hf_secret' }), 'SWARM_ORIGIN_CERTIFICATE')
  assert.deepEqual(seen, [])
})

const odd = (
  status: number,
  headers: Record<string, string | number>,
  body: Uint8Array = FILE.subarray(10, 1_010),
): Handler => {
  return (_, outgoing) => outgoing.writeHead(status, headers).end(body)
}
const partOf = (range: string, more: Record<string, string | number> = {}): Record<string, string | number> => ({
  'Content-Range': `bytes ${range}`,
  ...more,
})

for (const [what, code, handler] of [
  ['another range', 'SWARM_ORIGIN_ANSWER', odd(206, partOf('11-1010/300000'))],
  ['a longer range', 'SWARM_ORIGIN_ANSWER', odd(206, partOf('10-2000/300000'))],
  ['no Content-Range', 'SWARM_ORIGIN_ANSWER', odd(206, {})],
  ['several ranges', 'SWARM_ORIGIN_ANSWER', odd(206, { 'Content-Type': 'multipart/byteranges; boundary=x' })],
  ['a length that it does not tell', 'SWARM_ORIGIN_ANSWER', odd(206, partOf('10-1009/*'))],
  ['another file', 'SWARM_ORIGIN_SIZE', odd(206, partOf('10-1009/300001'))],
  ['a number beyond all numbers', 'SWARM_ORIGIN_ANSWER', odd(206, partOf('10-1009/99999999999999999999'))],
  ['more bytes than it says', 'SWARM_ORIGIN_ANSWER', odd(206, partOf('10-1009/300000'), FILE.subarray(10, 2_010))],
  ['compressed bytes', 'SWARM_ORIGIN_ANSWER', odd(206, partOf('10-1009/300000', { 'Content-Encoding': 'gzip' }))],
  ['the whole of another file', 'SWARM_ORIGIN_SIZE', odd(200, { 'Content-Length': 1_000 })],
  ['a whole file of untold length', 'SWARM_ORIGIN_ANSWER', odd(200, { 'Transfer-Encoding': 'chunked' })],
  ['no access', 'SWARM_ORIGIN_CREDENTIALS', odd(401, {})],
  ['no access for this token', 'SWARM_ORIGIN_CREDENTIALS', odd(403, {})],
  ['no file', 'SWARM_ORIGIN_NOT_FOUND', odd(404, {})],
  ['no such range', 'SWARM_ORIGIN_SIZE', odd(416, { 'Content-Range': 'bytes */5' })],
  ['a teapot', 'SWARM_ORIGIN_STATUS', odd(418, {})],
  ['a wait of a day', 'SWARM_ORIGIN_BUSY', odd(503, { 'Retry-After': 86_400 })],
  ['a wait until a far date', 'SWARM_ORIGIN_BUSY', odd(429, { 'Retry-After': 'Fri, 01 Jan 2100 00:00:00 GMT' })],
] as const) {
  test(`an answer with ${what} is refused: ${code}`, async t => fails(originAt(t, await serve(t, handler)), code))
}

test('a Content-Length that is not that of the range is refused before any byte of it', async t => {
  const handler = odd(206, partOf('10-1009/300000', { 'Content-Length': 2_000 }), FILE.subarray(10, 2_010))
  await fails(originAt(t, await serve(t, handler)), 'SWARM_ORIGIN_ANSWER')
})

test('a head without end, and what is no HTTP, are refused', async t => {
  const endless = await serveRaw(t, socket => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(`X-${'a'.repeat(100)}: ${'b'.repeat(1_000)}\r\n`));
    }
    socket.write('HTTP/1.1 206 Partial Content\r\n')
    socket.on('drain', more)
    more()
  })
  await fails(originAt(t, endless), 'SWARM_ORIGIN_ANSWER')
  await fails(originAt(t, await serveRaw(t, socket => socket.end('SSH-2.0-OpenSSH_9.2\r\n'))), 'SWARM_ORIGIN_ANSWER')
})

test('where a server gives no ranges a start of the file is skipped, and no more than that', async t => {
  const whole = odd(200, { 'Content-Length': FILE.byteLength }, FILE)
  const url = await serve(t, whole)
  assert.deepEqual(await fetchAll(originAt(t, url), { offset: 1_234, length: 5_000 }), FILE.subarray(1_234, 6_234))
  assert.deepEqual(await fetchAll(originAt(t, url), { offset: 299_999, length: 1 }), FILE.subarray(299_999))
  const fileBytes = 2 * ORIGIN_SKIP_BYTES_MAX
  const far = await serve(t, odd(200, { 'Content-Length': fileBytes }, Buffer.alloc(fileBytes)))
  const range = { offset: ORIGIN_SKIP_BYTES_MAX + 1, length: 1 }
  await fails(originAt(t, far, { fileBytes }), 'SWARM_ORIGIN_ANSWER', range)
})

test('a file that changes from one range to the next is given up', async t => {
  for (const [first, second] of [
    [{ ETag: '"a"' }, { ETag: '"b"' }],
    [{ 'Last-Modified': 'Fri, 01 Jan 2010 00:00:00 GMT' }, { 'Last-Modified': 'Fri, 01 Jan 2020 00:00:00 GMT' }],
    [{ ETag: '"a"' }, {}],
  ] as const) {
    let requests = 0
    const url = await serve(t, (incoming, outgoing) => {
      const { first: from, last } = rangeOf(incoming)
      const headers = partOf(`${from}-${last}/300000`, requests++ === 0 ? first : second)
      outgoing.writeHead(206, headers).end(FILE.subarray(from, last + 1))
    })
    const origin = originAt(t, url)
    await fetchAll(origin, { offset: 0, length: 10 })
    await fails(origin, 'SWARM_ORIGIN_CHANGED')
    await fails(origin, 'SWARM_ORIGIN_CHANGED')
    assert.equal(requests, 2)
  }
})

test('a range goes on where the connection broke, as often as bytes come', async t => {
  const asked: number[] = []
  const url = await serve(t, (incoming, outgoing) => {
    const { first, last } = rangeOf(incoming)
    asked.push(first)
    outgoing.writeHead(206, partOf(`${first}-${last}/300000`, { 'Content-Length': last - first + 1, ETag: '"one"' }))
    if (asked.length < 4) outgoing.write(FILE.subarray(first, first + 50_000), () => outgoing.destroy())
    else outgoing.end(FILE.subarray(first, last + 1))
  })
  const got = await fetchAll(originAt(t, url), { offset: 1_000, length: 290_000 })
  assert.ok(got.equals(FILE.subarray(1_000, 291_000)))
  assert.equal(asked.length, 4)
  assert.ok(asked.every((first, index) => index === 0 || first >= (asked[index - 1] ?? 0)))
})

test('a server that is busy or resets is asked again, and given up in the end', async t => {
  let requests = 0
  const busy = await serve(t, (incoming, outgoing) => {
    if (requests++ < 3) outgoing.writeHead(requests === 1 ? 429 : 503, { 'Retry-After': '1' }).end()
    else good(incoming, outgoing)
  })
  assert.equal((await fetchAll(originAt(t, busy), { offset: 0, length: 10 })).byteLength, 10)
  assert.equal(requests, 4)
  let resets = 0
  const broken = await serveRaw(t, socket => {
    resets++
    socket.resetAndDestroy()
  })
  await fails(originAt(t, broken), 'SWARM_ORIGIN_UNREACHABLE')
  assert.equal(resets, ORIGIN_TRIES_MAX)
})

test('a name without addresses cannot be reached', async t => {
  const resolve: Resolve = () => Promise.reject(new Error('ENOTFOUND'))
  await fails(originAt(t, 'http://x.example/', { resolve }), 'SWARM_ORIGIN_UNREACHABLE')
})

for (const [what, talk] of [
  ['says nothing', () => undefined],
  ['stops in the middle of the head', (socket: Socket) => void socket.write('HTTP/1.1 206 Partial')],
  ['stops in the middle of the body', (socket: Socket) => void socket.write(`${HEAD}Content-Length: 1000\r\n\r\nabc`)],
] as const) {
  test(`a server that ${what} is given up when its time is over`, async t => {
    const clock = new ManualClock()
    const url = await serveRaw(t, socket => {
      talk(socket)
      // As soon as this turn's bytes have gone all limits are over; again and again, for each try.
      const later = (): void => {
        clock.advance(60_000)
        if (!socket.destroyed) setImmediate(later)
      }
      setImmediate(later)
    })
    const tick = (): void => {
      clock.advance(1_000)
      if (isWaiting) setImmediate(tick)
    }
    let isWaiting = true
    setImmediate(tick)
    await fails(originAt(t, url, { clock }), 'SWARM_ORIGIN_UNREACHABLE')
    isWaiting = false
  })
}

test('a fetch ends with its signal, and with its origin', async t => {
  const url = await serve(t, (incoming, outgoing) => {
    const { first, last } = rangeOf(incoming)
    outgoing.writeHead(206, partOf(`${first}-${last}/300000`)).write(FILE.subarray(first, first + 1_000))
  })
  const controller = new AbortController()
  const stop = new Error('enough')
  const origin = originAt(t, url)
  const reading = fetchAll(
    origin,
    { offset: 0, length: 9_000 },
    { signal: controller.signal, onBytes: () => controller.abort(stop) },
  )
  await assert.rejects(reading, stop)
  const other = fetchAll(origin, { offset: 0, length: 9_000 }, { onBytes: () => origin.close() })
  await assert.rejects(other, { fault: { code: 'SWARM_ORIGIN_CLOSED' } })
  await fails(origin, 'SWARM_ORIGIN_CLOSED')
})

test('a limit on bytes a second is kept by all ranges together', async t => {
  const clock = new ManualClock()
  const url = await serve(t, good)
  const origin = originAt(t, url, { clock, bytesPerSecond: 10_000 })
  let isReading = true
  const tick = (): void => {
    clock.advance(1)
    if (isReading) setImmediate(tick)
  }
  setImmediate(tick)
  const ranges = [0, 20_000, 40_000].map(offset => fetchAll(origin, { offset, length: 20_000 }))
  await Promise.all(ranges)
  isReading = false
  assert.ok(clock.monotonic() >= 6_000, `60 000 bytes at 10 000 a second took ${clock.monotonic()} ms`)
})
