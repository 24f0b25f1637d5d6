/** Picking and scoring tokens from logits, without libllama: pure functions over one row of the vocabulary's size. */

/** The largest logit's index; the first one where several are equal, as llama.cpp's greedy sampler has it. */
export function argmax(logits: Float32Array): number {
  let best = 0
  let bestLogit = logits[0] ?? Number.NaN
  for (let token = 1; token < logits.length; token++) {
    const logit = logits[token] as number
    if (logit > bestLogit) {
      best = token
      bestLogit = logit
    }
  }
  return best
}

export type Score = { readonly token: number; readonly logprob: number }

/**
 * Log-probabilities of one token and of the `count` most likely ones, most likely first, equal ones by their id. Natural
 * logarithms under softmax of the logits as the model gave them: before bias, penalties, temperature and truncation.
 */
export function scoreTokens(
  logits: Float32Array,
  chosen: number,
  count: number,
): { readonly chosen: Score; readonly top: readonly Score[] } {
  const max = logits[argmax(logits)] ?? 0
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - max)
  const normalizer = max + Math.log(sum)
  const toScore = (token: number): Score => ({ token, logprob: (logits[token] ?? Number.NaN) - normalizer })
  return { chosen: toScore(chosen), top: topTokens(logits, count).map(toScore) }
}

/** Ids of the `count` largest logits, largest first. `count` is small, so one pass with an insertion is the fastest. */
function topTokens(logits: Float32Array, count: number): readonly number[] {
  const tokens: number[] = []
  const logitAt = (rank: number): number => logits[tokens[rank] as number] as number
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token] as number
    if (tokens.length === count && !(count > 0 && logit > logitAt(count - 1))) continue
    let rank = tokens.length
    while (rank > 0 && logit > logitAt(rank - 1)) rank--
    tokens.splice(rank, 0, token)
    if (tokens.length > count) tokens.pop()
  }
  return tokens
}
