/** `StageEngine` over the pipe to a child process. The rules of restarts and waiting are the supervisor's. */
import { encodeStep } from './child/codec.ts'
import { KIND } from './child/protocol.ts'
import { type EngineDeps, Supervisor } from './supervisor.ts'
import type { EngineOptions, StageEngine, StageReport } from './types.ts'

/** Makes an engine for a range of layers. Its child starts with the first `load`. */
export function createStageEngine(deps: EngineDeps, options: EngineOptions): StageEngine {
  const supervisor = new Supervisor<Omit<StageReport, 'pid'>>(deps, { role: 'stage', options })
  return {
    load: (request, options) => supervisor.load(request, options),
    // A step continues what is in its slot, and the slots went with the old process.
    step: step => supervisor.request({ kind: KIND.step, payload: encodeStep(step), duringRestart: 'fail' }),
    audit: audit => {
      const payload = encodeStep({ ...audit, slot: 0, position: 0, outputs: audit.count })
      return supervisor.request({ kind: KIND.audit, payload, duringRestart: 'fail' })
    },
    release: slot => supervisor.giveBack(KIND.release, slot),
    status: () => supervisor.status({ role: 'stage', kvBytes: supervisor.report?.kvBytes ?? 0 }),
    onCrash: listener => supervisor.onCrash(listener),
    stop: () => supervisor.stop(),
  }
}
