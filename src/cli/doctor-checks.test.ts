import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  checkSandbox,
  checkCores,
  checkDataDir,
  checkGpu,
  checkMemory,
  checkNode,
  checkPlatform,
  gpusPresent,
} from './doctor-checks.ts'

test('Node before 24 is a problem', () => {
  assert.equal(checkNode('24.21.0').state, 'ok')
  assert.equal(checkNode('22.9.0').state, 'fail')
})

test('the engine needs glibc 2.34, on Linux', () => {
  assert.equal(checkPlatform('linux', 'x64', '2.34').state, 'ok')
  assert.equal(checkPlatform('linux', 'x64', '3.0').state, 'ok')
  assert.equal(checkPlatform('linux', 'x64', '2.31').state, 'fail')
  assert.match(checkPlatform('linux', 'x64', undefined).advice ?? '', /musl/)
  assert.equal(checkPlatform('darwin', 'arm64', undefined).state, 'ok')
  assert.equal(checkPlatform('sunos', 'x64', undefined).state, 'fail')
})

test('cores and memory are told as this process sees them', () => {
  assert.equal(checkCores(2, 2).text, '2')
  assert.match(checkCores(2, 64).text, /^2 of 64/)
  assert.equal(checkMemory(20e9, 32e9).state, 'ok')
  assert.equal(checkMemory(1e9, 32e9).state, 'warn')
})

test('a data directory must be one that can be written, and should be private', t => {
  const folder = mkdtempSync(join(tmpdir(), 'koinon-test-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'file')
  writeFileSync(file, '')
  assert.equal(checkDataDir(join(file, 'below')).state, 'fail')
  assert.deepEqual(checkDataDir(join(folder, 'a', 'b')), {
    name: 'Data',
    state: 'ok',
    text: `${join(folder, 'a', 'b')} (will be made)`,
  })
  const shared = join(folder, 'shared')
  mkdirSync(shared)
  chmodSync(shared, 0o755)
  assert.equal(checkDataDir(shared).advice, `chmod 700 ${shared}`)
})

test('a GPU that is there but not used comes with the command that installs its package', () => {
  const device = (name: string) => ({ name, description: '', memoryFree: 1, memoryTotal: 1 })
  const cpuOnly = { package: '@node-llama-cpp/linux-x64 3.21.1', devices: [device('CPU')] }
  const present = gpusPresent(path => path === '/dev/nvidiactl' || path === '/dev/dri/renderD128')
  assert.deepEqual(present, ['nvidia'])
  const [check] = checkGpu(cpuOnly, present)
  assert.equal(check?.advice, 'npm install --no-save @node-llama-cpp/linux-x64-cuda@3.21.1')
  assert.deepEqual(checkGpu({ ...cpuOnly, devices: [device('CPU'), device('CUDA0')] }, present), [])
  assert.deepEqual(
    checkGpu(
      cpuOnly,
      gpusPresent(() => false),
    ),
    [],
  )
  const other = gpusPresent(path => path === '/dev/dri/renderD128')
  assert.match(checkGpu(cpuOnly, other)[0]?.advice ?? '', /linux-x64-vulkan@3\.21\.1$/)
})

test('an engine that gets out of its sandbox, or has none, is warned about', async () => {
  const held = { what: 'network', attempt: 'make a socket', refusal: 'EPERM' } as const
  const gone = { what: 'files', attempt: 'read /etc/passwd' } as const
  const proof = { text: 'no network', missing: [], attempts: [held, gone], escapes: [gone] }
  const warned = await checkSandbox(() => Promise.resolve(proof))
  assert.equal(warned.state, 'warn')
  assert.match(warned.text, /1 of 2 attempts .*; an engine can read \/etc\/passwd$/s)
  const lacking = { ...proof, missing: ['there is none'], attempts: [held], escapes: [] }
  assert.equal((await checkSandbox(() => Promise.resolve(lacking))).state, 'warn')
  assert.equal((await checkSandbox(() => Promise.resolve({ ...lacking, missing: [] }))).state, 'ok')
  assert.equal((await checkSandbox(() => Promise.reject(new Error('no engine')))).state, 'fail')
})
