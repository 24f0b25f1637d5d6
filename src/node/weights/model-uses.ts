/** Who works on which model. As many as like fetch or describe it at once; whoever removes it is alone with it meanwhile. */

export class ModelUses {
  readonly #uses = new Map<string, number>()
  readonly #removals = new Map<string, Promise<void>>()

  /** Resolves when the model is not being removed any more, whatever came of that; undefined: it is not. */
  removalOf(model: string): Promise<void> | undefined {
    return this.#removals.get(model)
  }

  isUsed(model: string): boolean {
    return this.#uses.has(model)
  }

  /** From now on the model is not removed. Nobody may be removing it. @returns ends that; idempotent */
  begin(model: string): () => void {
    this.#uses.set(model, (this.#uses.get(model) ?? 0) + 1)
    let hasEnded = false
    return () => {
      if (hasEnded) return
      hasEnded = true
      const left = (this.#uses.get(model) ?? 1) - 1
      if (left === 0) this.#uses.delete(model)
      else this.#uses.set(model, left)
    }
  }

  /** Nobody may use the model, or be removing it; whoever wants to begin waits for `removalOf`. */
  async remove<T>(model: string, action: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#removals.set(model, promise)
    try {
      return await action()
    } finally {
      this.#removals.delete(model)
      resolve()
    }
  }
}
