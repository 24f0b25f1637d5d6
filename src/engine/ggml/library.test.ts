import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import koffi from 'koffi'
import { GGML_TYPES } from '#formats'
import { measureWeightBandwidth } from '../bandwidth.ts'
import { findLibraryDirectory } from './library.ts'
import { openRuntime } from './runtime.ts'

const runtime = openRuntime({ threads: 1, device: 'auto' })

test('a machine without libraries is told what to install', () => {
  const resolve = (): string => {
    throw new Error('not found')
  }
  const find = (platform: NodeJS.Platform, arch: string) => () =>
    findLibraryDirectory({ preferGpu: false, resolve, platform, arch })
  assert.throws(find('win32', 'x64'), { code: 'ENGINE_NO_BACKEND', message: /@node-llama-cpp\/win-x64,.*npm install/ })
  assert.throws(find('sunos', 'x64'), { code: 'ENGINE_NO_BACKEND', message: /libraries for linux-x64, .* only/ })
})

test('packages with a GPU come first where one may be used', () => {
  const asked: string[] = []
  const resolve = (name: string): string => {
    asked.push(name)
    if (name.endsWith('linux-x64')) return '/p/linux-x64/dist/index.js'
    throw new Error('not found')
  }
  const directory = findLibraryDirectory({ preferGpu: true, resolve, platform: 'linux', arch: 'x64' })
  assert.deepEqual(asked, [
    '@node-llama-cpp/linux-x64-cuda',
    '@node-llama-cpp/linux-x64-vulkan',
    '@node-llama-cpp/linux-x64',
  ])
  assert.equal(directory, join('/p/linux-x64/bins/linux-x64'))
})

test('the CPU variant in the profile is the one that ggml loaded', { skip: process.platform !== 'linux' }, () => {
  const maps = readFileSync('/proc/self/maps', 'utf8')
  const mapped = [...new Set([...maps.matchAll(/libggml-cpu-(\w+)\.so/g)].map(match => match[1]))]
  assert.deepEqual(mapped, [runtime.cpuVariant])
})

test('back ends are loaded once, however often a runtime is opened', () => {
  const again = openRuntime({ threads: 2, device: 'cpu' })
  assert.equal(again.ggml.deviceCount(), runtime.ggml.deviceCount())
  assert.equal(again.threads, 2)
})

test('threads out of bounds are refused', () => {
  for (const threads of [0, 1.5, 100_000]) {
    assert.throws(() => openRuntime({ threads, device: 'cpu' }), { code: 'ENGINE_BAD_LOAD' })
  }
})

test('tensor types have the sizes that ggml gives them', () => {
  const base = koffi.load(join(runtime.libraryDir, process.platform === 'linux' ? 'libggml-base.so' : 'ggml-base.dll'))
  const blockSize = base.func('ggml_blck_size', 'int64_t', ['int'])
  const blockBytes = base.func('ggml_type_size', 'size_t', ['int'])
  for (const type of GGML_TYPES.values()) {
    assert.deepEqual([blockSize(type.id), blockBytes(type.id)], [type.blockSize, type.blockBytes], type.name)
  }
})

test('the speed of reading weights is plausible', () => {
  const bytesPerSecond = measureWeightBandwidth(runtime)
  assert.ok(bytesPerSecond > 1e8 && bytesPerSecond < 1e13, `${bytesPerSecond} bytes per second`)
})
