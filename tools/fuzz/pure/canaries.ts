/** Faults on purpose. The harness must find each of them soon, or it would not find those that matter either. */
import type { Fuzzer } from '../lib/fuzzer.ts'
import { byInputs } from '../lib/fuzzer.ts'
import { mutateBytes } from '../lib/mutate-bytes.ts'

const MESSAGE = Uint8Array.of(0, 0, 0, 4, 1, 2, 3, 4, 0, 0, 0, 1, 9)

/** Trusts a length that came from outside. */
const throwing: Fuzzer = {
  name: 'canary-throws',
  kind: 'canary',
  open: () =>
    byInputs({
      make: chance => mutateBytes(chance, MESSAGE),
      check: input => {
        const view = new DataView(input.buffer, input.byteOffset, input.byteLength)
        for (let offset = 0; offset < input.byteLength; offset += 4 + view.getUint32(offset));
        return 'read'
      },
    }),
}

/** Lets an exception go where nobody looks. */
const escaping: Fuzzer = {
  name: 'canary-escapes',
  kind: 'canary',
  open: () => ({
    run: chance => {
      if (chance.isOneIn(50)) void Promise.reject(new Error('nobody catches this'))
      return 'ran'
    },
  }),
}

export const canaries: readonly Fuzzer[] = [throwing, escaping]
