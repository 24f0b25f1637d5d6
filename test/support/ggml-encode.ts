/** Encodes f32 numbers as ggml stores them, for test models. Other types are made with libllama's own quantizer. */

export type WeightType = 'F32' | 'F16' | 'BF16' | 'Q8_0' | 'Q4_0'

const BLOCK = 32

const ENCODERS: Readonly<Record<WeightType, (values: Float32Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>>> = {
  F32: values => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  F16: values => new Uint8Array(Float16Array.from(values).buffer),
  BF16: encodeBf16,
  Q8_0: values => encodeBlocks(values, { blockBytes: 34, encode: encodeQ8 }),
  Q4_0: values => encodeBlocks(values, { blockBytes: 18, encode: encodeQ4 }),
}

/** @param values one tensor; its rows are a multiple of 32 numbers where the type has blocks */
export function encodeTensor(values: Float32Array<ArrayBuffer>, type: WeightType): Uint8Array<ArrayBuffer> {
  return ENCODERS[type](values)
}

/** The upper half of each f32, rounded to even. */
function encodeBf16(values: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return new Uint8Array(Uint16Array.from(bits, word => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16).buffer)
}

function encodeBlocks(
  values: Float32Array,
  type: { readonly blockBytes: number; readonly encode: (block: Float32Array, out: DataView) => void },
): Uint8Array<ArrayBuffer> {
  const blocks = values.length / BLOCK
  const bytes = new Uint8Array(blocks * type.blockBytes)
  for (let i = 0; i < blocks; i++) {
    const out = new DataView(bytes.buffer, i * type.blockBytes, type.blockBytes)
    type.encode(values.subarray(i * BLOCK, (i + 1) * BLOCK), out)
  }
  return bytes
}

/** f16 scale, then 32 signed bytes. */
function encodeQ8(block: Float32Array, out: DataView): void {
  const scale = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / 127
  out.setFloat16(0, scale, true)
  block.forEach((value, i) => out.setInt8(2 + i, scale === 0 ? 0 : Math.round(value / scale)))
}

/** f16 scale, then 16 bytes: number i in the low half of byte i, number i + 16 in its high half, each with 8 added. */
function encodeQ4(block: Float32Array, out: DataView): void {
  const largest = block.reduce((max, value) => (Math.abs(value) > Math.abs(max) ? value : max), 0)
  const scale = largest / -8
  out.setFloat16(0, scale, true)
  const quant = (value: number): number => (scale === 0 ? 8 : Math.min(15, Math.max(0, Math.round(value / scale + 8))))
  for (let i = 0; i < 16; i++) {
    out.setUint8(2 + i, quant(block[i] ?? 0) | (quant(block[i + 16] ?? 0) << 4))
  }
}
