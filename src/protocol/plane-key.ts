/**
 * Keys for connections that two nodes hold beside their session: TLS 1.3 with an external pre-shared key (RFC 8446, 4.2.11)
 * instead of certificates. The key is made of a channel's secrets, so only the two ends of the session can finish the
 * handshake, it is as safe against quantum computers as the session, and each number is good for one connection.
 */
import { concatBytes, fromHex, toHex } from '#base'
import { hkdfSha256 } from '#crypto'
import type { ChannelSecrets } from './channels.ts'

const PLANE_KEY_BYTES = 32
const INFO = new TextEncoder().encode('koinon/plane/1')
const FORM = /^koinon-1\.([0-9a-f]{32})\.(0|[1-9][0-9]{0,4})\.([1-9][0-9]{0,9})$/

/** Which channel of which session a connection is for, as the dialler says in the clear. */
export type PlaneIdentity = {
  /** 16 bytes. */
  readonly session: Uint8Array
  readonly resumptions: number
  readonly number: number
}

/** What TLS calls the identity of a pre-shared key. */
export function encodePlaneIdentity({ session, resumptions, number }: PlaneIdentity): string {
  return `koinon-1.${toHex(session)}.${resumptions}.${number}`
}

/** Undefined: not of that form. */
export function decodePlaneIdentity(text: string): PlaneIdentity | undefined {
  const [, session, resumptions, number] = FORM.exec(text) ?? []
  if (session === undefined) return undefined
  return { session: fromHex(session), resumptions: Number(resumptions), number: Number(number) }
}

/** 32 bytes. */
export function planeKey(session: Uint8Array, secrets: ChannelSecrets): Uint8Array {
  const both = concatBytes([secrets.dialler, secrets.listener])
  const key = hkdfSha256(both, session, INFO, PLANE_KEY_BYTES)
  both.fill(0)
  return key
}
