/**
 * Messages of NAT-PMP (RFC 6886) and of its successor PCP (RFC 6887), which share a port. Pure.
 *
 *     NAT-PMP  ask  |0|op| 0 (16) | inside port (16) | outside port (16) | lifetime (32) |              op 0: the address
 *              told |0|128+op| result (16) | epoch (32) | inside (16) | outside (16) | lifetime (32) |  op 1: UDP, 2: TCP
 *     PCP      ask  |2|op| 0 (16) | lifetime (32) | client address (128) |
 *              told |2|128+op| 0 (8) | result (8) | lifetime (32) | epoch (32) | 0 (96) |
 *              MAP  | nonce (96) | protocol (8) | 0 (24) | inside port (16) | outside port (16) | outside address (128) |
 */
import { concatBytes, toHex } from '#base'
import { addressOfBytes, bytesOfAddress } from '../ip.ts'
import { PMP_ANSWER_BYTES_MAX } from '../limits.ts'
import type { MappingRequest } from './types.ts'

export const PCP_NONCE_BYTES = 12

const PCP_VERSION = 2
const PCP_MAP = 1
const PCP_HEADER_BYTES = 24
const PCP_BYTES = 60
const IP_PROTOCOL = { udp: 17, tcp: 6 } as const
const PMP_OPCODE = { udp: 1, tcp: 2 } as const
const ANSWER = 128

/** What a gateway said. */
export type GatewayAnswer =
  | {
      readonly kind: 'granted'
      readonly externalPort: number
      /** PCP only. */
      readonly externalAddress?: string
      readonly leaseSeconds: number
    }
  | { readonly kind: 'address'; readonly externalAddress: string }
  /** The gateway does not speak this version. */
  | { readonly kind: 'version' }
  /** The gateway refused, by the number of the standard that it speaks. */
  | { readonly kind: 'refused'; readonly result: number }

export type PcpRequest = MappingRequest & {
  readonly clientAddress: string
  /** 12 bytes, the same for every message about one mapping. */
  readonly nonce: Uint8Array
  /** 0 takes the mapping back. */
  readonly leaseSeconds: number
}

export function encodePcp(request: PcpRequest): Uint8Array {
  const bytes = new Uint8Array(PCP_BYTES)
  const view = new DataView(bytes.buffer)
  bytes[0] = PCP_VERSION
  bytes[1] = PCP_MAP
  view.setUint32(4, request.leaseSeconds)
  bytes.set(wide(request.clientAddress), 8)
  bytes.set(request.nonce, PCP_HEADER_BYTES)
  bytes[36] = IP_PROTOCOL[request.protocol]
  view.setUint16(40, request.internalPort)
  view.setUint16(42, request.leaseSeconds === 0 ? 0 : (request.externalPort ?? request.internalPort))
  // All zeros of the right family: any address will do.
  bytes.set(wide(request.clientAddress.includes(':') ? '::' : '0.0.0.0'), 44)
  return bytes
}

/** Reads the answer to `request`; undefined where these bytes are none. */
export function decodePcp(bytes: Uint8Array, request: PcpRequest): GatewayAnswer | undefined {
  const { byteLength } = bytes
  if (byteLength < 4 || byteLength > PMP_ANSWER_BYTES_MAX) return undefined
  // A gateway that speaks NAT-PMP only says so in its own format (RFC 6887, appendix A).
  if (bytes[0] === 0 && bytes[1] !== undefined && bytes[1] >= ANSWER) return { kind: 'version' }
  if (bytes[0] !== PCP_VERSION || bytes[1] !== ANSWER + PCP_MAP || byteLength < PCP_HEADER_BYTES) return undefined
  const result = bytes[3] ?? 0
  if (result === 1) return { kind: 'version' }
  if (byteLength < PCP_BYTES) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, byteLength)
  const nonce = bytes.subarray(PCP_HEADER_BYTES, PCP_HEADER_BYTES + PCP_NONCE_BYTES)
  const isOurs =
    toHex(nonce) === toHex(request.nonce) &&
    bytes[36] === IP_PROTOCOL[request.protocol] &&
    view.getUint16(40) === request.internalPort
  if (!isOurs) return undefined
  if (result !== 0) return { kind: 'refused', result }
  return {
    kind: 'granted',
    externalPort: view.getUint16(42),
    externalAddress: addressOfBytes(bytes.subarray(44, PCP_BYTES)),
    leaseSeconds: view.getUint32(4),
  }
}

/** @param leaseSeconds 0 takes the mapping back */
export function encodePmp(request: MappingRequest, leaseSeconds: number): Uint8Array {
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  bytes[1] = PMP_OPCODE[request.protocol]
  view.setUint16(4, request.internalPort)
  view.setUint16(6, leaseSeconds === 0 ? 0 : (request.externalPort ?? request.internalPort))
  view.setUint32(8, leaseSeconds)
  return bytes
}

/** The question for the address outside. */
export function encodePmpAddressRequest(): Uint8Array {
  return new Uint8Array(2)
}

/** Reads the answer to a mapping, or where `request` is undefined, to the question for the address. */
export function decodePmp(bytes: Uint8Array, request?: MappingRequest): GatewayAnswer | undefined {
  const { byteLength } = bytes
  if (byteLength < 8 || byteLength > PMP_ANSWER_BYTES_MAX || bytes[0] !== 0) return undefined
  const opcode = request === undefined ? 0 : PMP_OPCODE[request.protocol]
  if (bytes[1] !== ANSWER + opcode) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, byteLength)
  const result = view.getUint16(2)
  if (result === 1) return { kind: 'version' }
  if (result !== 0) return { kind: 'refused', result }
  if (request === undefined) {
    if (byteLength < 12) return undefined
    return { kind: 'address', externalAddress: addressOfBytes(bytes.subarray(8, 12)) }
  }
  if (byteLength < 16 || view.getUint16(8) !== request.internalPort) return undefined
  return { kind: 'granted', externalPort: view.getUint16(10), leaseSeconds: view.getUint32(12) }
}

/** An address in the 16 bytes that PCP gives it; IPv4 as ::ffff:a.b.c.d. */
function wide(address: string): Uint8Array {
  const bytes = bytesOfAddress(address) ?? new Uint8Array(4)
  if (bytes.byteLength === 16) return bytes
  return concatBytes([new Uint8Array(10), Uint8Array.of(0xff, 0xff), bytes])
}
