/** Attackers that are used for several cases: a handshake costs more than most attacks behind it. */
import type { Chance } from '../lib/chance.ts'
import type { Attacker } from './attacker.ts'
import type { LiveNode } from './live-node.ts'

/** Cases of one attacker, at most: what one does to a node must not hide what the next one does. */
const CASES_MAX = 30
const JOIN_TRIES_MAX = 50

export class Pool {
  readonly #node: LiveNode
  readonly #prepare: (attacker: Attacker) => Promise<void>
  readonly #free: Attacker[] = []
  readonly #cases = new Map<Attacker, number>()

  /** @param prepare done once with each attacker, before it joins */
  constructor(node: LiveNode, prepare: (attacker: Attacker) => Promise<void> = () => Promise.resolve()) {
    this.#node = node
    this.#prepare = prepare
  }

  /** Does something with a peer that has joined. */
  async use<T>(chance: Chance, action: (attacker: Attacker) => Promise<T>): Promise<T> {
    const attacker = await this.#take(chance)
    try {
      return await action(attacker)
    } finally {
      const cases = (this.#cases.get(attacker) ?? 0) + 1
      this.#cases.set(attacker, cases)
      if (attacker.session !== undefined && cases < CASES_MAX) this.#free.push(attacker)
      else await this.#end(attacker)
    }
  }

  /** Everybody leaves. */
  async close(): Promise<void> {
    await Promise.all([...this.#cases.keys(), ...this.#free.splice(0)].map(attacker => this.#end(attacker)))
  }

  async #take(chance: Chance): Promise<Attacker> {
    for (let next = this.#free.pop(); next !== undefined; next = this.#free.pop()) {
      if (next.session !== undefined) return next
      await this.#end(next)
    }
    for (let tries = 0; tries < JOIN_TRIES_MAX; tries++) {
      const attacker = await this.#node.attacker(chance)
      await this.#prepare(attacker)
      if (await attacker.join()) return attacker
      await attacker.stop()
    }
    throw new Error('the node takes no peers any more')
  }

  async #end(attacker: Attacker): Promise<void> {
    this.#cases.delete(attacker)
    await attacker.stop()
  }
}
