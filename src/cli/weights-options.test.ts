import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { Command } from 'commander'
import { parseLayers } from './parse.ts'
import { addWeightsOptions, weightsConfig, type WeightsFlags } from './weights-options.ts'

/** What these options of `up` make of a node's configuration. */
function configOf(...args: string[]): object {
  const command = addWeightsOptions(new Command('up'))
    .option('--model <model>')
    .option('--layers <range>', '', parseLayers, { kind: 'auto', nodes: 1 })
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
  command.parse(args, { from: 'user' })
  return weightsConfig({ builtInModel: '/built-in.gguf' }, command.opts<WeightsFlags>())
}

test('nothing is decided where nothing is said', () => {
  assert.deepEqual(configOf(), { model: '/built-in.gguf' })
})

test('a model is a file where there is one, else which one is meant', () => {
  const file = import.meta.filename
  assert.deepEqual(configOf('--model', file), { model: file })
  assert.deepEqual(configOf('--model', 'Storyteller'), { model: '/built-in.gguf' })
  for (const named of ['77ab01cd', 'Qwen3 8B', 'magnet:?xt=urn:btmh:1220ab&tr=https://a/b', 'ab'.repeat(32)]) {
    assert.deepEqual(configOf('--model', named), { model: { named } })
  }
  assert.throws(() => configOf('--model', './no/such.gguf'), { code: 'CLI_MODEL_UNKNOWN' })
  assert.throws(() => configOf('--model', 'such.gguf'), { code: 'CLI_MODEL_UNKNOWN' })
})

test('space and rates are read as sizes', () => {
  const { model: _, ...limits } = configOf(
    '--storage-max',
    '200GB',
    '--upload-max',
    '5MB/s',
    '--download-max',
    '20MiB',
  ) as Record<string, unknown>
  assert.deepEqual(limits, { storageBytesMax: 200e9, uploadRateMax: 5e6, downloadRateMax: 20 * 2 ** 20 })
})

test('what is served, to whom, and from where', () => {
  const model = '/built-in.gguf'
  assert.deepEqual(configOf('--stage-only', '--sources', 's.json', '--no-share'), {
    model,
    stageOnly: true,
    sources: resolve('s.json'),
    share: false,
  })
  assert.deepEqual(configOf('--bittorrent'), { model, bittorrent: { port: 0 } })
  assert.deepEqual(configOf('--bittorrent', '6881'), { model, bittorrent: { port: 6881 } })
  assert.throws(() => configOf('--stage-only', '--layers', 'none'), { code: 'CLI_USAGE' })
})
