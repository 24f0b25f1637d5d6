/** Commands that do what a test of `koinon ask` wants. */
let hanging = 0

const common = {
  cost: 1,
  rate: { perSecond: 100, burst: 100 },
  right: 'member',
  deadlineMs: 20_000,
  priority: 'normal',
}

export const commands = z => [
  {
    ...common,
    type: 70,
    name: 'FLOOD',
    request: z.object({
      events: z.int().default(0),
      eventChars: z.int().default(0),
      answerChars: z.int().default(0),
    }),
    event: z.object({ text: z.string() }),
    response: z.object({ text: z.string() }),
    async handle({ events, eventChars, answerChars }, { emit }) {
      if (eventChars > 0) await emit({ text: 'x'.repeat(eventChars) })
      for (let i = 0; i < events; i++) await emit({ text: String(i) })
      return { body: { text: 'x'.repeat(answerChars) } }
    },
  },
  {
    ...common,
    type: 71,
    name: 'MIRROR',
    request: z.object({ bytes: z.instanceof(Uint8Array) }),
    response: z.object({ bytes: z.instanceof(Uint8Array) }),
    attachmentBytesMax: 8_000_000,
    async handle({ bytes }, { attachment, signal }) {
      const parts = []
      for await (const part of attachment.read({ from: 0, signal })) parts.push(part)
      const whole = new Uint8Array(Buffer.concat(parts))
      return {
        body: { bytes },
        attachment: {
          sizeBytes: whole.byteLength,
          async *read({ from }) {
            yield whole.subarray(from)
          },
          release: async () => undefined,
        },
      }
    },
  },
  {
    ...common,
    type: 72,
    name: 'HANG',
    request: z.object({}),
    response: z.object({}),
    async handle(_request, { signal }) {
      hanging++
      await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
      hanging--
      throw signal.reason
    },
  },
  {
    ...common,
    type: 73,
    name: 'HANGING',
    request: z.object({}),
    response: z.object({ hanging: z.int() }),
    handle: async () => ({ body: { hanging } }),
  },
  {
    ...common,
    type: 74,
    name: 'SELDOM',
    // Nothing of it comes back while a test runs, however slow the machine.
    rate: { perSecond: 0.01, burst: 1 },
    request: z.object({}),
    response: z.object({}),
    handle: async () => ({ body: {} }),
  },
]
