/** Every fuzzer, in the order in which they run. */
import type { Fuzzer } from './lib/fuzzer.ts'
import { liveBulk } from './live/bulk.ts'
import { liveHellos } from './live/hellos.ts'
import { liveJson } from './live/json.ts'
import { liveSessions } from './live/sessions.ts'
import { liveStages } from './live/stages.ts'
import { addresses } from './pure/addresses.ts'
import { bodies } from './pure/bodies.ts'
import { canaries } from './pure/canaries.ts'
import { datagrams } from './pure/datagrams.ts'
import { frames } from './pure/frames.ts'
import { handshakes } from './pure/handshakes.ts'
import { jsonMessages } from './pure/json-messages.ts'
import { keyFiles } from './pure/key-files.ts'
import { pieceStreams } from './pure/piece-streams.ts'
import { reassembly } from './pure/reassembly.ts'
import { relayStreams } from './pure/relay-streams.ts'
import { replayStates } from './pure/replay-states.ts'
import { resumptions } from './pure/resumptions.ts'
import { sealedStreams } from './pure/sealed-streams.ts'
import { sessions } from './pure/sessions.ts'
import { stageStreams } from './pure/stage-streams.ts'
import { statements } from './pure/statements.ts'
import { transferMessages } from './pure/transfer-messages.ts'

export const FUZZERS: readonly Fuzzer[] = [
  ...canaries,
  frames,
  bodies,
  handshakes,
  resumptions,
  statements,
  keyFiles,
  sessions,
  sealedStreams,
  replayStates,
  transferMessages,
  reassembly,
  jsonMessages,
  stageStreams,
  relayStreams,
  pieceStreams,
  addresses,
  datagrams,
  liveHellos,
  liveSessions,
  liveStages,
  liveBulk,
  liveJson,
]
