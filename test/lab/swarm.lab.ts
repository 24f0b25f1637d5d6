/** Machines that are given one address form a swarm, and stay one when whoever had that address is gone. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { labDataDir, startLabNode, untilMet, untilWhole } from './koinon-node.ts'
import { createLab, labUnavailable } from './lab.ts'

const PROMPT = 'Once upon a time'

describe('a swarm of machines', { skip: labUnavailable() ?? false }, () => {
  it('forms from one address, and outlives who had it, also over a restart of all', { timeout: 300_000 }, async t => {
    const lab = await createLab(t)
    const hosts = [await lab.publicHost('one'), await lab.publicHost('two'), await lab.publicHost('three')]
    const [one, two, three] = hosts
    assert(one !== undefined && two !== undefined && three !== undefined)
    const directories = { two: await labDataDir(t), three: await labDataDir(t) }
    const bootstrap = await startLabNode(lab, one)
    const args = ['--peer', bootstrap.address]
    const first = await startLabNode(lab, two, { layers: '0-4', args, dataDir: directories.two })
    const second = await startLabNode(lab, three, { layers: '4-8', args, dataDir: directories.three })
    await untilWhole(bootstrap)
    const story = await bootstrap.story(PROMPT)
    assert.ok(story.length > 10, story)

    await untilMet(first, [second])
    await bootstrap.kill()
    assert.equal(await first.story(PROMPT), story)

    await Promise.all([first.stop(), second.stop()])
    const again = {
      two: await startLabNode(lab, two, { layers: '0-4', args, dataDir: directories.two }),
      three: await startLabNode(lab, three, { layers: '4-8', args, dataDir: directories.three }),
    }
    await untilMet(again.two, [again.three])
    await untilWhole(again.three)
    assert.equal(await again.three.story(PROMPT), story)
  })
})
