/** During which run of the machine this is: what was written and not synced is in its memory until the next one. */
import { readFileSync } from 'node:fs'
import type { Random } from '#base'
import { sha256 } from '#crypto'
import { BOOT_TAG_BYTES } from './journal.ts'

/** Elsewhere than on Linux each start counts as a new run: then only what was synced is trusted. */
export function bootTag(random: Random): Uint8Array<ArrayBuffer> {
  try {
    const id = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    if (id.length > 0) return sha256(new TextEncoder().encode(id)).slice(0, BOOT_TAG_BYTES)
  } catch {
    // No such file: not Linux.
  }
  return random.bytes(BOOT_TAG_BYTES)
}
