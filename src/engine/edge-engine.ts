/** `EdgeEngine` over the pipe to a child process. The rules of restarts and waiting are the supervisor's. */
import {
  asBytes,
  decodeNextReply,
  decodePieceList,
  decodeUint32,
  encodeNext,
  encodePieces,
  encodeSampler,
  encodeTokenize,
  toInt32,
} from './child/codec.ts'
import { encodeJson, KIND, type Kind } from './child/protocol.ts'
import { type EngineDeps, Supervisor } from './supervisor.ts'
import type { EdgeEngine, EdgeReport, EngineOptions } from './types.ts'

/** Makes an engine for a model's edges. Its child starts with the first `load`. */
export function createEdgeEngine(deps: EngineDeps, options: EngineOptions): EdgeEngine {
  const supervisor = new Supervisor<Omit<EdgeReport, 'pid'>>(deps, { role: 'edge', options })
  const ask = (kind: Kind, ...payload: readonly Uint8Array[]): Promise<Uint8Array> =>
    supervisor.request({ kind, payload, duringRestart: 'wait' })
  return {
    load: (request, options) => supervisor.load(request, options),
    tokenize: async (text, options) => {
      const request = { text: new TextEncoder().encode(text), ...options }
      return toInt32(await ask(KIND.tokenize, ...encodeTokenize(request)))
    },
    pieces: async (tokens, { special }) =>
      decodePieceList(await ask(KIND.pieces, ...encodePieces({ tokens, special }))),
    embed: tokens => ask(KIND.embed, asBytes(tokens)),
    openSampler: async (sampling, prompt) => {
      // Only the last tokens count for the penalties: the rest need not cross the pipe.
      const recent = prompt.subarray(Math.max(0, prompt.length - sampling.penaltyLastN))
      return decodeUint32(await ask(KIND.openSampler, ...encodeSampler(encodeJson(sampling), recent)))
    },
    next: async (sampler, row, options = {}) => {
      const payload = encodeNext({ sampler, row, options })
      return decodeNextReply(await supervisor.request({ kind: KIND.next, payload, duringRestart: 'fail' }))
    },
    closeSampler: sampler => supervisor.giveBack(KIND.closeSampler, sampler),
    status: () => supervisor.status({ role: 'edge', kvBytes: 0 }),
    onCrash: listener => supervisor.onCrash(listener),
    stop: () => supervisor.stop(),
  }
}
