/** A manifest for tests, with everything in it that one may have. */
import { type ModelManifest, torrentOf } from '#formats'
import { toHex } from '#base'

export const CARD: ModelManifest['card'] = {
  benchmarks: [
    { name: 'MMLU (5-shot)', score: 66.6, unit: '%' },
    { name: 'Perplexity, WikiText-2', score: 6, unit: '' },
  ],
  testVector: {
    version: 1,
    profile: 'ggml cpu avx2',
    seed: 0xffff_ffff,
    probes: [
      { part: 'embed', values: new Uint8Array(Float32Array.from({ length: 8 }, (_, i) => i / 3).buffer), norm: 12.5 },
      { part: 0, values: new Uint8Array(32), norm: 0 },
      { part: 'head', values: new Uint8Array(32).fill(1), norm: 1e30 },
    ],
  },
  sources: ['https://example.org/models/small.gguf'],
}

export function manifestOf(
  identity: { readonly id: string; readonly core: Uint8Array },
  over: Partial<ModelManifest> = {},
): ModelManifest {
  return {
    model: identity.id,
    infoHash: toHex(torrentOf(identity.core).infoHash),
    name: 'Small (8-bit) ✓',
    architecture: 'llama',
    layerCount: 2,
    licence: 'Apache-2.0',
    createdAt: 1_700_000_000_000,
    previous: 'ab'.repeat(32),
    card: CARD,
    ...over,
  }
}
