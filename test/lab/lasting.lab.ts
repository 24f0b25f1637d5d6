/** Generations of real nodes go on while the network below them changes: the text is that of an undisturbed one. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PeerSummary } from '#wire'
import { until } from '../../tools/swarm.ts'
import { type LabNode, NODE_PORT, startLabNode, untilWhole } from './koinon-node.ts'
import { createLab, type Host, labUnavailable, type SiteHost } from './lab.ts'

const PROMPT = 'Once upon a time'
const SECRETS = { KOINON_SWARM_SECRET: 'a secret of the lab for its nodes' }

/** So many pieces of text are there before anything happens. */
const TOLD_BEFORE = 10
/** Long enough for a new path to be made meanwhile. */
const TOKENS_LONG = 150
const TOKENS = 60

const FOREVER_MS = 60_000

/** A punch that fails is tried again after about half a minute, and after about a whole one. */
const PUNCHED_MS_MAX = 240_000

describe('a generation goes on', { skip: labUnavailable() ?? false }, () => {
  it('when its path moves from a relay to a direct connection', { timeout: 480_000 }, async t => {
    const lab = await createLab(t)
    const relay = await startRelay(lab, await lab.publicHost('relay'))
    const link = { delayMs: 20 }
    const [left, right] = [
      await lab.natHost('left', { kind: 'full-cone', link }),
      await lab.natHost('right', { kind: 'port-restricted' }),
    ]
    const server = await startLabNode(lab, right, { layers: '0-8', ...memberOf([relay], right) })
    // Else the path may have moved before anybody looks.
    const together = await keepApart(lab, [left, right])
    const entry = await startLabNode(lab, left, memberOf([relay], left))
    await untilWhole(entry)
    const before = await until(() => pathTo(entry, server), { what: 'a path', timeoutMs: FOREVER_MS })
    assert.equal(before.kind, 'relayed')
    const kinds: string[] = [before.kind]
    const told = [await entry.tell(PROMPT, { tokensMax: TOKENS_LONG, after: { pieces: TOLD_BEFORE, act: together } })]
    // One after the other, so that the path moves in the midst of one. It may come to ICE first, and is bettered then.
    const isPunched = async (): Promise<true | undefined> => {
      const { kind = 'none' } = (await pathTo(entry, server)) ?? {}
      kinds.push(kind)
      if (kind === 'punched') return true
      told.push(await entry.tell(PROMPT, { tokensMax: TOKENS_LONG }))
      return undefined
    }
    await until(isPunched, { what: 'a punched path', timeoutMs: PUNCHED_MS_MAX })
    t.diagnostic(`paths before and after each generation: ${kinds.join(', ')}`)
    told.push(await entry.tell(PROMPT, { tokensMax: TOKENS_LONG }))
    assert.deepEqual(
      told,
      told.map(() => told[0]),
    )
  })

  it('when the relay that carries it dies', { timeout: 240_000 }, async t => {
    const lab = await createLab(t)
    const relays = [
      await startRelay(lab, await lab.publicHost('relay-a')),
      await startRelay(lab, await lab.publicHost('relay-b')),
    ]
    const [left, right] = [
      await lab.natHost('left', { kind: 'symmetric' }),
      await lab.natHost('right', { kind: 'symmetric' }),
    ]
    const server = await startLabNode(lab, right, { layers: '0-8', ...memberOf(relays, right) })
    const entry = await startLabNode(lab, left, memberOf(relays, left))
    await untilWhole(entry)
    // Until there are two, the one that dies cannot be replaced.
    const holdsBoth = async (): Promise<true | undefined> =>
      (await server.client.status()).relay?.held.length === 2 ? true : undefined
    await until(holdsBoth, { what: 'two reservations', timeoutMs: FOREVER_MS })
    const undisturbed = await entry.tell(PROMPT, { tokensMax: TOKENS })
    const path = await pathTo(entry, server)
    assert.equal(path?.kind, 'relayed')
    const carrier = relays.find(({ ready }) => ready.peer === path.via)
    assert.ok(carrier)
    const told = await entry.tell(PROMPT, {
      tokensMax: TOKENS,
      after: { pieces: TOLD_BEFORE, act: () => carrier.kill() },
    })
    assert.equal(told, undisturbed)
    assert.notEqual((await pathTo(entry, server))?.via, path.via)
  })

  for (const what of ['ports', 'address'] as const) {
    it(`when a router forgets its connections and gets other ${what}`, { timeout: 240_000 }, async t => {
      const lab = await createLab(t)
      const host = await lab.publicHost('server')
      const server = await startLabNode(lab, host, { layers: '0-8', listen: listenOf(host), env: SECRETS })
      const left = await lab.natHost('left', { kind: 'port-restricted' })
      const entry = await startLabNode(lab, left, memberOf([server], left))
      await untilWhole(entry)
      const undisturbed = await entry.tell(PROMPT, { tokensMax: TOKENS })
      const act = (): Promise<void> => lab.rebind(left.site, what)
      const told = await entry.tell(PROMPT, { tokensMax: TOKENS, after: { pieces: TOLD_BEFORE, act } })
      assert.equal(told, undisturbed)
    })
  }

  it('over IPv6 alone', { timeout: 240_000 }, async t => {
    const lab = await createLab(t)
    const [one, two] = [
      await lab.publicHost('one', { ipv4: false, ipv6: true }),
      await lab.publicHost('two', { ipv4: false, ipv6: true }),
    ]
    const server = await startLabNode(lab, one, { layers: '0-8', listen: listenOf(one), env: SECRETS })
    const entry = await startLabNode(lab, two, memberOf([server], two))
    await untilWhole(entry)
    assert.ok((await entry.tell(PROMPT, { tokensMax: TOKENS })).length > 0)
    assert.equal((await pathTo(entry, server))?.kind, 'direct')
  })
})

type Running = Awaited<ReturnType<typeof createLab>>

function startRelay(lab: Running, host: Host): Promise<LabNode> {
  return startLabNode(lab, host, { listen: listenOf(host), args: ['--relay', 'on'], env: SECRETS })
}

function memberOf(contacts: readonly LabNode[], host: Host) {
  return { listen: listenOf(host), args: contacts.flatMap(({ address }) => ['--peer', address]), env: SECRETS }
}

function listenOf({ ipv4, ipv6 }: Host): string[] {
  const place = ipv4 === undefined ? `/ip6/${ipv6 ?? '::'}` : `/ip4/${ipv4}`
  return [`${place}/tcp/${NODE_PORT}`, `${place}/udp/${NODE_PORT}/quic-v1`]
}

async function pathTo(node: LabNode, other: LabNode): Promise<PeerSummary['path'] | undefined> {
  return (await node.client.peers()).find(({ peer }) => peer === other.ready.peer)?.path
}

/** Nothing passes between the two sites themselves. @returns how to end that */
async function keepApart(lab: Running, [one, other]: readonly [SiteHost, SiteHost]): Promise<() => Promise<void>> {
  const rules = async (input: string): Promise<void> => {
    const { code, stderr } = await lab.exec(one.site.router, ['nft', '-f', '-'], { input })
    assert.equal(code, 0, stderr)
  }
  const address = other.site.publicIpv4()
  await rules(`table ip apart {
    chain forwarded {
      type filter hook forward priority -10
      ip saddr ${address} drop
      ip daddr ${address} drop
    }
  }\n`)
  return () => rules('delete table ip apart\n')
}
