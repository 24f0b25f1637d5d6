/** What a circuit may carry, for strangers and for those who are trusted. */
import type { CircuitLimits } from '#wire'
import {
  RELAY_CIRCUIT_BYTES_MAX,
  RELAY_CIRCUIT_BYTES_PER_SECOND,
  RELAY_CIRCUIT_MS_MAX,
  RELAY_TRUSTED_CIRCUIT_BYTES_MAX,
  RELAY_TRUSTED_CIRCUIT_BYTES_PER_SECOND,
  RELAY_TRUSTED_CIRCUIT_MS_MAX,
} from './limits.ts'

export const STRANGER_LIMITS: CircuitLimits = {
  bytes: RELAY_CIRCUIT_BYTES_MAX,
  durationMs: RELAY_CIRCUIT_MS_MAX,
  bytesPerSecond: RELAY_CIRCUIT_BYTES_PER_SECOND,
}

export const TRUSTED_LIMITS: CircuitLimits = {
  bytes: RELAY_TRUSTED_CIRCUIT_BYTES_MAX,
  durationMs: RELAY_TRUSTED_CIRCUIT_MS_MAX,
  bytesPerSecond: RELAY_TRUSTED_CIRCUIT_BYTES_PER_SECOND,
}
