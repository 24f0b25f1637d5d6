/** Layer 0: what every module needs and nothing else. No imports from the project; runs in a browser. */
export { Bitfield } from './bitfield.ts'
export { concatBytes, formatBytes, fromHex, toHex } from './bytes.ts'
export { type CancelTimer, type Clock, ManualClock, repeat, sleep, systemClock } from './clock.ts'
export { abortable, type DeadlineOptions, TimeoutError, withDeadline } from './deadline.ts'
export {
  abortError,
  assert,
  codeOf,
  type Fault,
  KoinonError,
  messageOf,
} from './errors.ts'
export { drainedOrGone } from './drained.ts'
export type { KeyValueStore, StoredEntry } from './key-value.ts'
export { containsLayers, decodeLayers, formatLayers, type LayerRange, layersIn } from './layer-range.ts'
export { createLogger, type LogFields, type Logger, type LogLevel, type LogOptions, silentLogger } from './log.ts'
export { OneReader } from './one-reader.ts'
export { BoundedQueue } from './queue.ts'
export { type Random, seededRandom, systemRandom, uniform } from './random.ts'
export { ReceiveQueue, type ReceiveQueueLimits } from './receive-queue.ts'
export { type ByteStream, createStreamPair, StreamError } from './stream.ts'
