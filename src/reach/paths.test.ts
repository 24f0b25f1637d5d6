import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NatName } from '#wire'
import { PEER_KINDS, pathsOf } from './paths.ts'

/** The lab's tables (`docs/guides/lab.md`): what a peer of each kind can do with us. */
const TABLE: Readonly<Record<string, readonly string[]>> = {
  none: ['direct', 'punched', 'punched', 'punched', 'punched'],
  'full-cone': ['direct', 'punched', 'punched', 'punched', 'punched'],
  restricted: ['direct', 'punched', 'punched', 'punched', 'punched'],
  'port-restricted': ['direct', 'punched', 'punched', 'punched', 'relayed'],
  symmetric: ['direct', 'punched', 'punched', 'relayed', 'relayed'],
  unknown: ['direct', 'relayed', 'relayed', 'relayed', 'relayed'],
}

for (const [kind, words] of Object.entries(TABLE)) {
  test(`${kind} with each other kind`, () => {
    const paths = pathsOf({ kind: kind as NatName, isForeseen: false, isPublic: false })
    assert.deepEqual(
      paths.map(path => path.tcp),
      words,
    )
    assert.deepEqual(
      paths.map(path => path.udp),
      words,
    )
  })
}

test('a symmetric NAT whose ports can be foreseen is guessed; a public node is dialled; blocked UDP is relayed', () => {
  const foreseen = pathsOf({ kind: 'symmetric', isForeseen: true, isPublic: false })
  assert.equal(foreseen.find(path => path.kind === 'port-restricted')?.udp, 'guessed')
  assert.ok(pathsOf({ kind: 'symmetric', isForeseen: false, isPublic: true }).every(path => path.tcp === 'direct'))
  const blocked = pathsOf({ kind: 'blocked', isForeseen: false, isPublic: false })
  assert.deepEqual([blocked[0]?.tcp, blocked[0]?.udp, blocked.length], ['direct', 'relayed', PEER_KINDS.length])
})
