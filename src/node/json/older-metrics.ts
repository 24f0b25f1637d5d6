/**
 * `/metrics/1.0`, which monitors of the systems before ask: an empty question or `{}`, and counters of the node.
 *
 *   {"success": true, "message": "...", "metrics": {peer_id, namespace, messages_sent, messages_received,
 *    latency_samples: [ms], bytes_sent, bytes_received, message_errors, timeout_errors}}
 *
 * Right and rate are those of GET_CAPABILITIES. Bytes, latencies and timeouts (pings
 * without an answer) are those of the connections that are open now.
 */
import { z } from 'zod'
import type { DispatcherCounts } from '#protocol'
import { OLDER_LATENCIES_MAX } from '../limits.ts'
import type { OlderHandler } from './older-exchange.ts'

export type OlderMetricsDeps = {
  readonly counts: () => Pick<DispatcherCounts, 'accepted' | 'open' | 'refused'>
  readonly peers: () => readonly {
    readonly rttMs?: number
    readonly pingFailures: number
    readonly traffic: { readonly bytesIn: number; readonly bytesOut: number }
  }[]
}

const questionSchema = z.union([z.null(), z.strictObject({})])
const capabilitiesSchema = z.object({ peer: z.string(), models: z.array(z.object({ name: z.string() })) })

/** Makes what answers questions of this protocol. */
export function createOlderMetrics({ counts, peers }: OlderMetricsDeps): OlderHandler {
  return async (value, ask) => {
    if (!questionSchema.safeParse(value).success) return undefined
    const { peer, models } = capabilitiesSchema.parse((await ask('GET_CAPABILITIES', {})).body)
    const { accepted, open, refused } = counts()
    const connected = peers()
    const errors = Object.values(refused).reduce((sum, count) => sum + count, 0)
    const metrics = {
      peer_id: peer,
      namespace: models[0]?.name ?? '',
      messages_sent: accepted - open + errors,
      messages_received: accepted + errors,
      latency_samples: connected
        .flatMap(({ rttMs }) => (rttMs === undefined ? [] : [rttMs]))
        .slice(0, OLDER_LATENCIES_MAX),
      bytes_sent: connected.reduce((sum, { traffic }) => sum + traffic.bytesOut, 0),
      bytes_received: connected.reduce((sum, { traffic }) => sum + traffic.bytesIn, 0),
      message_errors: errors,
      timeout_errors: connected.reduce((sum, { pingFailures }) => sum + pingFailures, 0),
    }
    return {
      success: true,
      message: 'messages since the start; bytes, latencies and timeouts of open connections',
      metrics,
    }
  }
}
