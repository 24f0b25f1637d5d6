/**
 * Reads fields of a decoded dictionary, each with its type and size. The first one that is wrong is remembered, and what
 * is read of it or after it is of the right type and means nothing: the caller asks once, at the end.
 */
import { type BencodeValue, isDict } from '#formats'

type Dict = { readonly [key: string]: BencodeValue }
type Sizes = { readonly min: number; readonly max: number }

const NOTHING = new Uint8Array()

export class Fields {
  readonly #dict: Dict
  #wrong: string | undefined

  constructor(dict: Dict) {
    this.#dict = dict
  }

  /** The name of the first field that was missing or wrong. */
  get wrong(): string | undefined {
    return this.#wrong
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#dict, name)
  }

  /** The value as it is. */
  value(name: string): BencodeValue {
    return this.#dict[name] ?? this.#refuse(name, NOTHING)
  }

  dict(name: string): Fields {
    const value = this.#dict[name]
    return new Fields(isDict(value) ? value : this.#refuse(name, {}))
  }

  list(name: string): readonly BencodeValue[] {
    const value = this.#dict[name]
    return Array.isArray(value) ? (value as readonly BencodeValue[]) : this.#refuse(name, [])
  }

  bytes(name: string, sizes: Sizes): Uint8Array {
    const value = this.#dict[name]
    const isRight = value instanceof Uint8Array && value.byteLength >= sizes.min && value.byteLength <= sizes.max
    return isRight ? value : this.#refuse(name, NOTHING)
  }

  /** Exactly so many bytes. */
  exactly(name: string, size: number): Uint8Array {
    return this.bytes(name, { min: size, max: size })
  }

  integer(name: string, range: Sizes): number {
    const value = this.#dict[name]
    return typeof value === 'number' && value >= range.min && value <= range.max ? value : this.#refuse(name, 0)
  }

  /** Marks a field whose contents are wrong in some other way. */
  refuse(name: string): void {
    this.#refuse(name, undefined)
  }

  #refuse<T>(name: string, instead: T): T {
    this.#wrong ??= name
    return instead
  }
}
