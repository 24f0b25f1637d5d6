/** The lab itself: what changes while it runs, what it leaves alone, and that it goes away. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemRandom } from '#base'
import { createLab, type Lab, labUnavailable, type NatOptions, type SiteHost } from './lab.ts'
import { at, seenFrom, untilFence } from './measure.ts'
import { namespaces } from './namespaces.ts'
import { Probe, type ProbeSocket } from './probe-client.ts'
import type { Endpoint } from './probe-protocol.ts'
import { must } from './shell.ts'

const skip = labUnavailable() ?? false

type Talk = {
  readonly lab: Lab
  readonly server: Probe
  readonly serverSocket: ProbeSocket
  readonly inside: SiteHost
  readonly host: Probe
  readonly socket: ProbeSocket
  readonly outside: Endpoint
}

/** A host behind a NAT that has spoken to a server. */
async function talk(t: TestContext, options: NatOptions): Promise<Talk> {
  const lab = await createLab(t)
  const server = new Probe(lab, await lab.publicHost('server'))
  const inside = await lab.natHost('host', options)
  const host = new Probe(lab, inside)
  const [serverSocket, socket] = [await server.udpOpen(), await host.udpOpen()]
  const outside = await seenFrom([host, socket], [server, serverSocket])
  return { lab, server, serverSocket, inside, host, socket, outside }
}

/** Whether a packet of the server still comes in to where the host was seen before. */
async function comesIn({ server, serverSocket, host, socket, outside }: Talk): Promise<boolean> {
  await server.udpSend(serverSocket, outside, 'still there?')
  // Another socket's packet, sent later, is the fence.
  const other = await host.udpOpen()
  await server.udpSend(serverSocket, await seenFrom([host, other], [server, serverSocket]), 'fence')
  await untilFence(host, other)
  return (await host.udpNext(socket, 0))?.text === 'still there?'
}

describe('a router that forgets', { skip }, () => {
  it('lets nobody in until the host speaks again, from the same port', async t => {
    const talking = await talk(t, { kind: 'port-restricted' })
    const { lab, inside, server, serverSocket, host, socket, outside } = talking
    assert.equal(await comesIn(talking), true)
    await lab.rebind(inside.site, 'state')
    assert.equal(await comesIn(talking), false)
    assert.deepEqual(await seenFrom([host, socket], [server, serverSocket]), outside)
    assert.equal(await comesIn(talking), true)
  })

  for (const kind of ['full-cone', 'symmetric'] as const) {
    it(`gives another port (${kind})`, async t => {
      const talking = await talk(t, { kind })
      const { lab, inside, server, serverSocket, host, socket, outside } = talking
      await lab.rebind(inside.site, 'ports')
      const now = await seenFrom([host, socket], [server, serverSocket])
      assert.equal(now.address, outside.address)
      assert.notEqual(now.port, outside.port)
      assert.equal(await comesIn(talking), false)
      assert.equal(await comesIn({ ...talking, outside: now }), true)
    })
  }

  it('gets another address, and is no more at the old one', async t => {
    const talking = await talk(t, { kind: 'full-cone' })
    const { lab, inside, server, serverSocket, host, socket, outside } = talking
    await lab.rebind(inside.site, 'address')
    const now = await seenFrom([host, socket], [server, serverSocket])
    assert.notEqual(now.address, outside.address)
    assert.equal(now.address, inside.site.publicIpv4())
    assert.equal(await comesIn(talking), false)
    await lab.cut(inside.site)
    await lab.heal(inside.site)
    assert.equal(await comesIn({ ...talking, outside: now }), true)
  })

  it('cannot forget where there is no NAT', async t => {
    const { lab, inside } = await talk(t, { kind: 'none' })
    await assert.rejects(lab.rebind(inside.site, 'state'), RangeError)
  })
})

describe('a cut cable', { skip }, () => {
  for (const where of ['host', 'site', 'public host'] as const) {
    for (const link of [undefined, { delayMs: 5 }]) {
      it(`of a ${where} loses packets until it is healed${link === undefined ? '' : ' (delayed link)'}`, async t => {
        const talking = await talk(t, { kind: 'port-restricted', ...(link !== undefined && { link }) })
        const { lab, inside, server, serverSocket, host, socket, outside } = talking
        const end = { host: inside, site: inside.site, 'public host': server.host }[where]
        const out = {
          send: (text: string) => host.udpSend(socket, at(server, serverSocket), text),
          arrived: () => untilFence(server, serverSocket),
        }
        const back = {
          send: (text: string) => server.udpSend(serverSocket, outside, text),
          arrived: () => untilFence(host, socket),
        }
        // A delay is between the site and the internet. A packet that has it before the cut would come there too late.
        const near = where === 'host' ? out : back
        const ways = link === undefined ? [out, back] : [near]
        await lab.cut(end)
        for (const { send } of ways) await send('lost')
        await lab.heal(end)
        for (const { send } of ways) await send('fence')
        for (const { arrived } of ways) assert.deepEqual(await arrived(), [])
      })
    }
  }

  it('takes the carrier away where it is unplugged, and gives it back', async t => {
    const { lab, inside, server, serverSocket, host, socket } = await talk(t, { kind: 'full-cone', ipv6: 'open' })
    const carrier = async (): Promise<string> => (await lab.exec(inside, ['ip', '-o', 'link', 'show', 'eth0'])).stdout
    for (const end of [inside, inside.site]) {
      await lab.cut(end, 'unplugged')
      assert.equal((await carrier()).includes('NO-CARRIER'), end === inside)
      await lab.heal(end)
      assert(!(await carrier()).includes('NO-CARRIER'))
    }
    await seenFrom([host, socket], [server, serverSocket])
  })
})

describe('IPv6 in the lab', { skip }, () => {
  for (const ipv6 of ['open', 'firewall'] as const) {
    it(`keeps addresses, and lets strangers in only without a firewall (${ipv6})`, async t => {
      const lab = await createLab(t)
      const first = new Probe(lab, await lab.publicHost('first', { ipv4: false, ipv6: true }))
      const second = new Probe(lab, await lab.publicHost('second', { ipv6: true }))
      const inside = await lab.natHost('host', { kind: 'symmetric', ipv6 })
      const host = new Probe(lab, inside)
      const [atFirst, atSecond] = [await first.udpOpen({ ipv6: true }), await second.udpOpen({ ipv6: true })]
      const socket = await host.udpOpen({ ipv6: true })
      const to = { address: first.host.ipv6 ?? '', port: atFirst.port }
      const outside = await seenFrom([host, socket], [first, atFirst], to)
      assert.deepEqual(outside, { address: inside.ipv6, port: socket.port })
      await second.udpSend(atSecond, outside, 'stranger')
      await first.udpSend(atFirst, outside, 'fence')
      const expected = ipv6 === 'open' ? ['stranger'] : []
      const arrived = (await untilFence(host, socket, expected)).map(message => message.text)
      assert.deepEqual(arrived, expected)
    })
  }
})

describe('a delayed link', { skip }, () => {
  it('loses what its seed says, the same in every run', async t => {
    const seed = systemRandom.uint32()
    const runs: string[][] = []
    for (const name of ['one', 'two']) {
      const lab = await createLab(t)
      const server = new Probe(lab, await lab.publicHost('server'))
      const host = new Probe(lab, await lab.publicHost(name, { link: { lossRatio: 0.3, seed } }))
      const [serverSocket, socket] = [await server.udpOpen(), await host.udpOpen()]
      for (let index = 0; index < 50; index += 1) await host.udpSend(socket, at(server, serverSocket), `${index}`)
      // So many that one arrives.
      for (let index = 0; index < 30; index += 1) await host.udpSend(socket, at(server, serverSocket), 'fence')
      const arrived = (await untilFence(server, serverSocket)).map(message => message.text)
      runs.push(arrived)
    }
    const [first, second] = runs
    assert(first !== undefined && first.length > 15 && first.length < 50, `seed ${seed}: ${first?.length}`)
    assert.deepEqual(second, first, `seed ${seed}`)
  })
})

describe('a lab', { skip }, () => {
  it('runs programs: their lines, their errors, their end', async t => {
    const lab = await createLab(t)
    const host = await lab.publicHost('host')
    const program = lab.run(host, ['sh', '-c', 'echo one; echo two; echo bad >&2; read word; echo $word; exit 3'])
    assert.equal(await program.nextLine(), 'one')
    assert.equal(await program.nextLine(), 'two')
    program.write('three\n')
    const rest: string[] = []
    for await (const line of program.lines) rest.push(line)
    assert.deepEqual(rest, ['three'])
    assert.deepEqual(await program.ended, { code: 3, signal: null })
    assert.equal(program.stderr(), 'bad\n')
    const endless = lab.run(host, ['sleep', 'infinity'])
    endless.kill()
    assert.deepEqual(await endless.ended, { code: null, signal: 'SIGKILL' })
  })

  it('ends a program that prints without end', async t => {
    const lab = await createLab(t)
    const program = lab.run(await lab.publicHost('host'), ['sh', '-c', 'yes'])
    await program.ended
    await assert.rejects(async () => {
      for await (const line of program.lines) assert.equal(line, 'y')
    }, /more lines/)
  })

  it('stands beside another one with the same addresses, and leaves the network of the machine alone', async t => {
    const before = await machine()
    const labs = [await createLab(t), await createLab(t)]
    const addresses = new Set<string>()
    for (const lab of labs) {
      const server = new Probe(lab, await lab.publicHost('server'))
      const host = new Probe(lab, await lab.natHost('host', { kind: 'full-cone', link: { delayMs: 1 } }))
      const [serverSocket, socket] = [await server.udpOpen(), await host.udpOpen()]
      addresses.add((await seenFrom([host, socket], [server, serverSocket])).address)
    }
    assert.equal(addresses.size, 1)
    assert.equal(await machine(), before)
    for (const lab of labs) await lab.close()
    assert.equal(await machine(), before)
  })

  it('refuses names and shapes that it cannot make', async t => {
    const lab = await createLab(t)
    await lab.publicHost('host')
    await assert.rejects(lab.publicHost('host'), RangeError)
    await assert.rejects(lab.publicHost('../host'), RangeError)
    await assert.rejects(lab.natHost('other', { kind: 'symmetric', hairpin: true }), RangeError)
  })

  it('of a test that was killed ends its programs at once, and its namespaces with the next lab', async t => {
    const script = fileURLToPath(new URL('./abandoned-lab.ts', import.meta.url))
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.after(() => child.kill('SIGKILL'))
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const { prefix, pid } = JSON.parse(line) as { prefix: string; pid: number }
    const mine = (): string[] => namespaces().filter(name => name.startsWith(prefix))
    assert(mine().length >= 3)
    process.kill(pid, 0)
    // A lab beside it leaves it alone while it lives.
    await createLab(t)
    assert(mine().length >= 3)
    child.kill('SIGKILL')
    await once(child, 'exit')
    while (isAlive(pid)) await new Promise(resolve => setImmediate(resolve))
    await createLab(t)
    assert.deepEqual(mine(), [])
  })
})

/** Devices, addresses, routes and rules of the machine itself; counters and times left out. */
async function machine(): Promise<string> {
  const parts = [
    await must(['ip', '-o', 'link']),
    await must(['ip', '-4', '-o', 'addr']),
    await must(['ip', 'route']),
    await must(['ip', '-6', 'route']),
    await must(['nft', 'list', 'ruleset']),
    await must(['sysctl', 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding', 'net.ipv4.conf.all.rp_filter']),
  ]
  return parts.join('\n').replaceAll(/expires \S+/g, '')
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
