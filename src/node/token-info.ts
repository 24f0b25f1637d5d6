/** Turns what the engine says of a token into what clients are told. */
import type { NextToken, TokenScore } from '#engine'
import type { TokenInfo, TokenLogprob } from '#wire'

const decoder = new TextDecoder()

export function toTokenInfo(next: NextToken): TokenInfo {
  return {
    token: next.token,
    ...(next.chosen === undefined ? {} : { logprob: toLogprob(next.chosen) }),
    ...(next.top === undefined ? {} : { top: next.top.map(toLogprob) }),
    ...(next.logits === undefined ? {} : { logits: toBase64(next.logits) }),
  }
}

function toLogprob({ token, piece, logprob }: TokenScore): TokenLogprob {
  return { token, text: decoder.decode(piece), bytes: [...piece], logprob }
}

function toBase64({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64')
}
