/** Proves the sandbox on this machine: an engine child is started as always, and tries what it must not be able to do. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import type { ProbeAttempt, ProbeRequest } from '../child/probe-role.ts'
import { decodeJson, encodeJson, KIND } from '../child/protocol.ts'
import { EngineChild } from '../engine-child.ts'
import { EngineError } from '../errors.ts'
import type { EngineDeps } from '../supervisor.ts'
import type { EngineOptions } from '../types.ts'
import type { SandboxFacts } from './facts.ts'

export type SandboxProof = {
  /** What was switched on, in words. */
  readonly text: string
  /** What this platform lacks, as sentences without a full stop. */
  readonly missing: readonly string[]
  /** What was tried and must be refused: each with how it was; without a refusal it went through. */
  readonly attempts: readonly ProbeAttempt[]
  /** Of `attempts`, those that went through: none where the sandbox holds. */
  readonly escapes: readonly ProbeAttempt[]
}

/**
 * Starts an engine child and has it try to reach the network, files, programs and processes.
 * @param secrets files of the user to try, beside one that is made for it and the system's list of users
 * @throws EngineError where the child does not start, or cannot even read its model
 */
export async function proveSandbox(
  deps: EngineDeps,
  options: EngineOptions,
  secrets: readonly string[] = [],
): Promise<SandboxProof> {
  const directory = mkdtempSync(path.join(tmpdir(), 'koinon-sandbox-'))
  const [model, secret] = [path.join(directory, 'model'), path.join(directory, 'secret')]
  for (const file of [model, secret]) writeFileSync(file, 'koinon', { mode: 0o600 })
  const request: ProbeRequest = {
    model,
    own: secret,
    secrets: [...secrets, ...(process.platform === 'linux' ? ['/etc/passwd', homedir()] : [])],
    newFile: path.join(directory, 'new'),
    node: process.pid,
  }
  const child = new EngineChild(deps, { role: 'probe', options }, { reads: [model] })
  try {
    await child.ready()
    const answer = decodeJson(await child.request(KIND.probe, [encodeJson(request)])) as {
      readonly text: string
      readonly facts: SandboxFacts
      readonly attempts: readonly ProbeAttempt[]
    }
    const unreadable = answer.attempts.find(({ what, refusal }) => what === 'model' && refusal !== undefined)?.refusal
    if (unreadable !== undefined) {
      throw new EngineError(
        { code: 'ENGINE_FILE_UNREADABLE', reason: unreadable },
        `the engine's sandbox keeps it from the very file that it should read (${unreadable})`,
      )
    }
    const attempts = answer.attempts.filter(({ what }) => what !== 'model')
    const escapes = attempts.filter(({ refusal }) => refusal === undefined)
    return { text: answer.text, missing: answer.facts.missing, attempts, escapes }
  } finally {
    await child.end()
    rmSync(directory, { recursive: true, force: true })
  }
}
