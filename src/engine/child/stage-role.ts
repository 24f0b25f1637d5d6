/** The child of a `StageEngine`: a range of layers. */
import { StageSession } from '../stage-session.ts'
import type { StageLoad } from '../types.ts'
import { decodeStep, decodeUint32, encodeProgress } from './codec.ts'
import { type ChildHost, type Handler, requireLoaded, unknownCommand } from './handler.ts'
import { decodeJson, encodeJson, KIND } from './protocol.ts'

export function createStageHandler({ open, confinement, describe }: ChildHost): Handler {
  let session: StageSession | undefined
  return async ({ kind, payload }, notify) => {
    switch (kind) {
      case KIND.load: {
        session?.free()
        session = undefined
        const next = new StageSession(open(), { reserve: bytes => confinement.reserve(bytes) })
        const request = decodeJson(payload) as StageLoad
        const report = await next.load(request, (done, total) => void notify(encodeProgress(done, total)))
        session = next
        return [encodeJson({ ...report, sandbox: describe() })]
      }
      case KIND.step:
        return [requireLoaded(session).step(decodeStep(payload))]
      case KIND.audit:
        return [requireLoaded(session).audit(decodeStep(payload))]
      case KIND.release:
        requireLoaded(session).release(decodeUint32(payload))
        return []
      default:
        throw unknownCommand(kind)
    }
  }
}
