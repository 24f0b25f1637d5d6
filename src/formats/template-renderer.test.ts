import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { ManualClock, systemClock } from '#base'
import { createTemplateRenderer, type TemplateRenderer, type TemplateRendererOptions } from './template-renderer.ts'

const PATIENT = { timeoutMs: 20_000 }

/** 2026-11-21 08:14:09 UTC, a Saturday. */
const NOW = Date.UTC(2026, 10, 21, 8, 14, 9)
const clock = { ...systemClock, now: () => NOW }

function rendererFor(context: TestContext, options: TemplateRendererOptions = PATIENT): TemplateRenderer {
  const renderer = createTemplateRenderer({ clock }, options)
  context.after(() => renderer.stop())
  return renderer
}

const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hello {{ 1 + 1 }}' },
]
const request = (template: string | undefined) => ({
  template,
  messages,
  addGenerationPrompt: true,
  bosText: '<s>',
  eosText: '</s>',
})

test('a chat is rendered with the template of its model, and what users write is only text', async context => {
  const renderer = rendererFor(context)
  const template =
    '{{ bos_token }}{% for message in messages %}\n' +
    '    {% if loop.first and message.role == "system" %}[{{ message.content | trim }}]\n' +
    '    {% else %}<{{ message["role"] }}>{{ message["content"] }}{{ eos_token }}{% endif %}{% endfor %}' +
    '{% if add_generation_prompt %}<assistant>{% endif %}'
  assert.equal(await renderer.render(request(template)), '<s>[Be brief.]\n<user>Hello {{ 1 + 1 }}</s><assistant>')
})

test('a model without a template gets ChatML', async context => {
  assert.equal(
    await rendererFor(context).render(request(undefined)),
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello {{ 1 + 1 }}<|im_end|>\n<|im_start|>assistant\n',
  )
})

test('templates see the time of the clock that was given', async context => {
  const template = '{{ strftime_now("%d %B %Y, %-d %b %y, %A %a %H:%M:%S %j %%") }}'
  assert.equal(
    await rendererFor(context).render(request(template)),
    '21 November 2026, 21 Nov 26, Saturday Sat 08:14:09 %j %',
  )
})

test('a template may refuse its messages', async context => {
  const template = '{{ raise_exception("Only user and assistant roles are supported!") }}'
  await assert.rejects(rendererFor(context).render(request(template)), {
    code: 'FORMAT_TEMPLATE_INVALID',
    message: /Only user and assistant roles are supported!/,
  })
})

test('a template that is no Jinja is an error, and the next one works', async context => {
  const renderer = rendererFor(context)
  await assert.rejects(renderer.render(request('{% if %}')), { code: 'FORMAT_TEMPLATE_INVALID' })
  assert.equal(await renderer.render(request('ok')), 'ok')
})

test('a template that loops for ever ends at its deadline, and others are answered meanwhile', async context => {
  const renderer = rendererFor(context, { timeoutMs: 250 })
  const loop = '{% for a in range(9999) %}{% for b in range(9999) %}{% set c = b %}{% endfor %}{% endfor %}'
  await renderer.render(request('warm'))
  const looping = assert.rejects(renderer.render(request(loop)), { code: 'FORMAT_TEMPLATE_TIMEOUT', message: /250 ms/ })
  assert.equal(await renderer.render(request('ok')), 'ok')
  await looping
  assert.equal(await renderer.render(request('ok again')), 'ok again')
})

test('templates that fill memory end their own process only', async context => {
  const renderer = rendererFor(context)
  const bombs = [
    // A worker thread would take the whole node with it here.
    '{{ range(100000000) | length }}',
    '{% set n = namespace(x=[1, 2, 3, 4]) %}{% for i in range(30) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | length }}',
    '{% set n = namespace(x="aaaa") %}{% for i in range(30) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | upper }}',
  ]
  for (const bomb of bombs) await assert.rejects(renderer.render(request(bomb)), { code: 'FORMAT_TEMPLATE_MEMORY' })
  assert.equal(await renderer.render(request('ok')), 'ok')
})

test('a template that makes too much text is refused', async context => {
  const renderer = rendererFor(context)
  const times = (count: number): string => `{% for a in range(${count}) %}${'é'.repeat(512)}{% endfor %}`
  assert.equal((await renderer.render(request(times(1024)))).length, 512 * 1024)
  await assert.rejects(renderer.render(request(times(1025))), { code: 'FORMAT_TEMPLATE_OUTPUT' })
})

test('a template reaches nothing outside of Jinja', async context => {
  const renderer = rendererFor(context)
  const escapes = [
    '{{ messages.constructor.constructor("return process")() }}',
    '{{ "".constructor.constructor("return process")() }}',
    '{{ range.constructor("return process")() }}',
    '{{ process.exit(1) }}',
  ]
  for (const escape of escapes) {
    await assert.rejects(renderer.render(request(escape)), { code: 'FORMAT_TEMPLATE_INVALID' })
  }
  assert.equal(await renderer.render(request('{{ process }}{{ messages.__proto__ }}')), '')
})

test('too long templates and chats are refused before anything is started', async context => {
  const renderer = rendererFor(context)
  const long = { role: 'user', content: 'x'.repeat(1024 * 1024) }
  const many = Array.from({ length: 4097 }, () => ({ role: 'user', content: '' }))
  await assert.rejects(renderer.render(request('x'.repeat(256 * 1024 + 1))), { code: 'FORMAT_TEMPLATE_INPUT' })
  await assert.rejects(renderer.render({ ...request('x'), messages: [long] }), { code: 'FORMAT_TEMPLATE_INPUT' })
  await assert.rejects(renderer.render({ ...request('x'), messages: many }), { code: 'FORMAT_TEMPLATE_INPUT' })
})

test('more chats than may wait are refused, and those that wait are answered', async context => {
  const renderer = rendererFor(context, { ...PATIENT, workersMax: 1 })
  const running = Array.from({ length: 65 }, (_, i) => renderer.render(request(String(i))))
  await assert.rejects(renderer.render(request('x')), { code: 'FORMAT_TEMPLATE_BUSY' })
  assert.deepEqual(
    await Promise.all(running),
    running.map((_, i) => String(i)),
  )
})

test('an aborted rendering settles at once', async context => {
  const reason = new Error('gone')
  await assert.rejects(rendererFor(context).render(request('x'), { signal: AbortSignal.abort(reason) }), reason)
})

test('a process that does not answer is given up by the clock', async () => {
  const manual = new ManualClock()
  const renderer = createTemplateRenderer({ clock: manual }, PATIENT)
  const rendering = assert.rejects(renderer.render(request('x')), { code: 'FORMAT_TEMPLATE_STOPPED', message: /start/ })
  // The rendering has its process by now, and the process has not had the time to come up.
  await Promise.resolve()
  manual.advance(20_000)
  await rendering
  await renderer.stop()
})

test('stop ends what is running and what waits, and nothing starts after it', async () => {
  const renderer = createTemplateRenderer({ clock }, { ...PATIENT, workersMax: 1 })
  const loop = '{% for a in range(9999) %}{% for b in range(9999) %}{% set c = b %}{% endfor %}{% endfor %}'
  const running = [loop, 'x'].map(template =>
    assert.rejects(renderer.render(request(template)), { code: 'FORMAT_TEMPLATE_STOPPED' }),
  )
  await renderer.stop()
  await Promise.all(running)
  await assert.rejects(renderer.render(request('x')), { code: 'FORMAT_TEMPLATE_STOPPED' })
  await renderer.stop()
})
