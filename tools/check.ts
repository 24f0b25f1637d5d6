/**
 * `npm run check`: format, types, lint, unused code, tidiness. Runs all and reports all, so that one run shows
 * everything that is wrong. With `--fix`, formats instead of complaining.
 */
import { spawnSync } from 'node:child_process'

const fix = process.argv.includes('--fix')

const CHECKS: ReadonlyArray<readonly [name: string, command: string, ...args: string[]]> = [
  ['format', 'biome', 'format', ...(fix ? ['--write'] : []), '.'],
  ['types', 'tsc', '-p', '.'],
  ['lint', 'oxlint', '--type-aware', '--deny-warnings', 'src', 'tools', 'test', 'bench', 'bin'],
  ['unused', 'knip'],
  ['tidy', 'node', '--test', '--test-reporter=dot', 'tools/tidy.test.ts'],
]

const failed: string[] = []
for (const [name, command, ...args] of CHECKS) {
  const startedAt = performance.now()
  // A shell, because on Windows the commands of node_modules/.bin are scripts.
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', shell: process.platform === 'win32' })
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`)
  if (status !== 0) {
    failed.push(name)
    console.log(`${stdout ?? ''}${stderr ?? ''}`)
  }
}
if (failed.length > 0) {
  console.error(`check failed: ${failed.join(', ')}`)
  process.exitCode = 1
}
