/** Typed, bounded look-ups in GGUF metadata, under an architecture's prefix and without one. */
import { FormatError } from './errors.ts'
import type { GgufValue } from './gguf.ts'

type Bounds = { readonly min: number; readonly max: number }

/** A look-up that throws FORMAT_MODEL_INVALID for values of a wrong type, out of bounds, or missing where needed. */
export class MetadataReader {
  readonly #metadata: ReadonlyMap<string, GgufValue>
  readonly #prefix: string

  /** @param architecture its name and a dot come before every key; empty for keys as they are */
  constructor(metadata: ReadonlyMap<string, GgufValue>, architecture: string) {
    this.#metadata = metadata
    this.#prefix = architecture === '' ? '' : `${architecture}.`
  }

  /** The same metadata by full keys. */
  get global(): MetadataReader {
    return new MetadataReader(this.#metadata, '')
  }

  integer(key: string, bounds: Bounds): number {
    return this.integerOrUndefined(key, bounds) ?? this.#missing(key)
  }

  integerOrUndefined(key: string, bounds: Bounds): number | undefined {
    const value = this.#numberOrUndefined(key, bounds)
    if (value !== undefined && !Number.isInteger(value)) throw this.invalid(`"${this.#prefix}${key}" is not an integer`)
    return value
  }

  number(key: string, bounds: Bounds): number {
    return this.#numberOrUndefined(key, bounds) ?? this.#missing(key)
  }

  numberOr(key: string, fallback: number, bounds: Bounds): number {
    return this.#numberOrUndefined(key, bounds) ?? fallback
  }

  text(key: string): string {
    return this.textOrUndefined(key) ?? this.#missing(key)
  }

  textOrUndefined(key: string): string | undefined {
    const value = this.#metadata.get(this.#prefix + key)
    if (value === undefined || typeof value === 'string') return value
    throw this.invalid(`"${this.#prefix}${key}" is not text`)
  }

  /** An integer that is one for all layers, written once or once per layer. */
  uniform(key: string, layerCount: number, bounds: Bounds): number {
    return this.#uniform(key, layerCount, bounds) ?? this.#missing(key)
  }

  uniformOr(key: string, layerCount: number, options: Bounds & { readonly fallback: number }): number {
    return this.#uniform(key, layerCount, options) ?? options.fallback
  }

  invalid(what: string): FormatError {
    return new FormatError({ code: 'FORMAT_MODEL_INVALID', what }, `the model's metadata is invalid: ${what}`)
  }

  #uniform(key: string, layerCount: number, bounds: Bounds): number | undefined {
    const value = this.#metadata.get(this.#prefix + key)
    if (!Array.isArray(value)) return this.integerOrUndefined(key, bounds)
    const items: readonly unknown[] = value
    if (items.length !== layerCount) {
      throw this.invalid(`"${this.#prefix}${key}" has ${items.length} items for ${layerCount} layers`)
    }
    const first = items[0]
    if (items.some(item => item !== first)) {
      const what = `a different "${key}" in each layer`
      throw new FormatError({ code: 'FORMAT_MODEL_UNSUPPORTED', what }, `models with ${what} are not supported`)
    }
    return this.#checked(key, first, bounds)
  }

  #numberOrUndefined(key: string, bounds: Bounds): number | undefined {
    const value = this.#metadata.get(this.#prefix + key)
    return value === undefined ? undefined : this.#checked(key, value, bounds)
  }

  #checked(key: string, value: unknown, bounds: Bounds): number {
    if (typeof value !== 'number') throw this.invalid(`"${this.#prefix}${key}" is not a number`)
    if (!(value >= bounds.min && value <= bounds.max)) {
      throw this.invalid(`"${this.#prefix}${key}" is ${value}; it must be within ${bounds.min} and ${bounds.max}`)
    }
    return value
  }

  #missing(key: string): never {
    throw this.invalid(`"${this.#prefix}${key}" is missing`)
  }
}
