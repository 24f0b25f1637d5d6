/**
 * A plug-in with one command, ECHO: says each word of a text as an event, then the whole text. Both nodes load it:
 *
 *     koinon up --plugin examples/plugin-echo.mjs
 *     koinon ask PEER echo '{"text": "good morning"}'
 *
 * docs/guides/plugins.md explains every field.
 */
export const commands = z => [
  {
    type: 64,
    name: 'ECHO',
    request: z.object({ text: z.string().max(1000), loud: z.boolean().default(false) }),
    event: z.object({ word: z.string() }),
    response: z.object({ text: z.string(), from: z.string() }),
    cost: 1,
    rate: { perSecond: 1, burst: 5 },
    right: 'member',
    deadlineMs: 10_000,
    priority: 'normal',
    async handle({ text, loud }, { caller, emit }) {
      const said = loud ? text.toUpperCase() : text
      for (const word of said.split(/\s+/).filter(part => part !== '')) await emit({ word })
      return { body: { text: said, from: caller.peer } }
    },
  },
]
