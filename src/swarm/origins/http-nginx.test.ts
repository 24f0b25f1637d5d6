import assert from 'node:assert/strict'
import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { seededRandom, systemClock } from '#base'
import { type NginxServer, nginxMissing, startNginx } from '../../../test/support/nginx-server.ts'
import { fetchAll, randomBytes } from '../../../test/support/origin-fetch.ts'
import type { Origin } from '../types.ts'
import { createAddressRules, decodeAllowance } from './address-rules.ts'
import { createHttpOrigin } from './http.ts'

const skip = nginxMissing()
const FILE = randomBytes(3_000_000)

type Setting = { readonly allow?: string; readonly fileBytes?: number; readonly path?: string; readonly token?: string }

function originOf(t: TestContext, nginx: NginxServer, setting: Setting = {}): Origin {
  const { allow = '127.0.0.1', fileBytes = FILE.byteLength, path = 'm.gguf', token } = setting
  const rules = createAddressRules([decodeAllowance(allow) ?? assert.fail(allow)])
  const deps = { clock: systemClock, random: seededRandom(1), rules }
  const url = new URL(path, nginx.url)
  const origin = createHttpOrigin(deps, { url, fileBytes, ...(token === undefined ? {} : { token }) })
  t.after(() => origin.close())
  return origin
}

async function nginxWith(t: TestContext, directives = ''): Promise<NginxServer> {
  const nginx = await startNginx(t, directives)
  writeFileSync(join(nginx.root, 'm.gguf'), FILE)
  return nginx
}

test('nginx gives ranges, several at once', { skip }, async t => {
  const nginx = await nginxWith(t)
  const origin = originOf(t, nginx)
  const offsets = [0, 1, 65_536, 1_000_000, 2_900_000]
  const got = await Promise.all(offsets.map(offset => fetchAll(origin, { offset, length: 100_000 })))
  for (const [index, offset] of offsets.entries())
    assert.ok(got[index]?.equals(FILE.subarray(offset, offset + 100_000)))
})

test('nginx is killed in the middle of a range: the rest comes when it is there again', { skip }, async t => {
  const nginx = await nginxWith(t, 'limit_rate 300k;')
  let kills = 0
  const got = await fetchAll(
    originOf(t, nginx),
    { offset: 100_000, length: 2_000_000 },
    {
      onBytes: async () => {
        if (kills++ > 0) return
        await nginx.kill()
        await nginx.start('')
      },
    },
  )
  assert.ok(got.equals(FILE.subarray(100_000, 2_100_000)))
  const [again = ''] = await nginx.requests(1)
  const first = Number(/"bytes=(\d+)-2099999"/.exec(again)?.[1])
  assert.ok(first > 100_000 && first < 2_100_000, `resumed, not begun again: ${again}`)
})

test('a file that is replaced behind nginx is given up, and none of the new one is taken', { skip }, async t => {
  const nginx = await nginxWith(t)
  const origin = originOf(t, nginx)
  await fetchAll(origin, { offset: 0, length: 1_000 })
  writeFileSync(join(nginx.root, 'm.gguf'), randomBytes(FILE.byteLength, 2))
  utimesSync(join(nginx.root, 'm.gguf'), 1_000_000_000, 1_000_000_000)
  let parts = 0
  const reading = fetchAll(origin, { offset: 1_000, length: 1_000 }, { onBytes: () => void parts++ })
  await assert.rejects(reading, { fault: { code: 'SWARM_ORIGIN_CHANGED' } })
  assert.equal(parts, 0)
})

test('another length, no file and no access are told apart', { skip }, async t => {
  const nginx = await nginxWith(
    t,
    'location /secret/ { if ($http_authorization != "Bearer good") { return 401; } alias ./; }',
  )
  const range = { offset: 0, length: 10 }
  await assert.rejects(fetchAll(originOf(t, nginx, { fileBytes: 4_000_000 }), range), {
    fault: { code: 'SWARM_ORIGIN_SIZE', bytes: FILE.byteLength, expectedBytes: 4_000_000 },
  })
  const beyond = originOf(t, nginx, { fileBytes: 4_000_000 })
  await assert.rejects(fetchAll(beyond, { offset: 3_500_000, length: 10 }), {
    fault: { code: 'SWARM_ORIGIN_SIZE', bytes: FILE.byteLength, expectedBytes: 4_000_000 },
  })
  await assert.rejects(fetchAll(originOf(t, nginx, { path: 'other.gguf' }), range), {
    fault: { code: 'SWARM_ORIGIN_NOT_FOUND' },
  })
  const wrong = originOf(t, nginx, { path: 'secret/m.gguf', token: 'bad' })
  await assert.rejects(fetchAll(wrong, range), { fault: { code: 'SWARM_ORIGIN_CREDENTIALS' } })
})

test('nginx redirects like Hugging Face does; to another private port only where that is allowed', {
  skip,
}, async t => {
  const store = await nginxWith(t)
  const hub = await startNginx(t, `location /owner/repo/resolve/ { return 302 ${store.url}m.gguf?signature=x; }`)
  const path = 'owner/repo/resolve/main/m.gguf'
  const range = { offset: 5, length: 50 }
  assert.deepEqual(await fetchAll(originOf(t, hub, { path, token: 'hf_secret' }), range), FILE.subarray(5, 55))
  assert.deepEqual(
    (await hub.requests(1)).map(line => line.includes('"Bearer hf_secret"')),
    [true],
  )
  assert.deepEqual(
    (await store.requests(1)).map(line => line.includes('Bearer')),
    [false],
  )
  const alone = originOf(t, hub, { path, allow: new URL(hub.url).host })
  await assert.rejects(fetchAll(alone, range), { fault: { code: 'SWARM_ORIGIN_REFUSED' } })
  assert.equal((await store.requests(1)).length, 1)
})

test('a server that compresses is asked not to', { skip }, async t => {
  const nginx = await nginxWith(t, 'gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;')
  assert.deepEqual(await fetchAll(originOf(t, nginx), { offset: 0, length: 1_000 }), FILE.subarray(0, 1_000))
})

test('nginx without ranges: a start of the file comes', { skip }, async t => {
  const nginx = await nginxWith(t, 'max_ranges 0;')
  assert.deepEqual(await fetchAll(originOf(t, nginx), { offset: 700, length: 1_000 }), FILE.subarray(700, 1_700))
})
