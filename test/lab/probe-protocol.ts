/** What a probe is told and what it answers: one line of JSON each, matched by `id`. */

export type Endpoint = { readonly address: string; readonly port: number }

export type UdpMessage = { readonly text: string; readonly from: Endpoint }

/** Either the other's word and where it came from, or why not. */
export type TcpResult = { readonly peer?: string; readonly remote?: Endpoint; readonly code?: string }

export type ProbeRequest =
  | { readonly what: 'udp-open'; readonly port: number; readonly ipv6: boolean }
  | { readonly what: 'udp-send'; readonly socket: number; readonly to: Endpoint; readonly text: string }
  | { readonly what: 'udp-next'; readonly socket: number; readonly timeoutMs: number }
  | { readonly what: 'close'; readonly socket: number }
  | { readonly what: 'tcp-listen'; readonly port: number; readonly token: string }
  | { readonly what: 'tcp-accepted'; readonly socket: number; readonly timeoutMs: number }
  | {
      readonly what: 'tcp-connect'
      readonly localPort: number
      readonly to: Endpoint
      readonly token: string
      readonly timeoutMs: number
      /** Whether to try again after a refusal until the time is over. */
      readonly again: boolean
    }

export type ProbeAnswer = {
  readonly socket?: number
  readonly port?: number
  readonly code?: string | undefined
  readonly message?: UdpMessage | undefined
  readonly result?: TcpResult
}
