import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { cut, type Variant, variantsOf } from './formal/model.ts'
import { answerOf, checkRecord, compare, expectedOf, recordName, recordOf } from './formal/proverif.ts'
import { commentOf, outcomeOf, runsOf } from './formal/spin.ts'

const HEADER = `(* A model.
   @variant whole
     All of it.
     @expect second true
     @expect first false
   @variant weak LOST BROKEN
     @expect first true
*)
`
const BODY = `free c.
#if LOST
out(c, k).
#if !BROKEN
never.
#endif
#else
kept.
#endif
#if query second
mark.
#endif
(* @query first *)
query s: bitstring;
  event(a).
(* @query second *)
query attacker(s).
process 0
`
const variants = variantsOf('toy', HEADER + BODY)
const whole = one(variants, 'whole')

function one(all: readonly Variant[], name: string): Variant {
  const found = all.find(variant => variant.name === name)
  assert.ok(found !== undefined)
  return found
}

const faulty = (header: string, body = BODY) => variantsOf('toy', `(*\n${header}\n*)\n${body}`)

test('a variant gets its flags, and only the queries that it expects something of', () => {
  assert.equal(
    one(variants, 'weak').text,
    'free c.\nout(c, k).\n(* @query first *)\nquery s: bitstring;\n  event(a).\nprocess 0\n',
  )
  assert.equal(whole.text, BODY.replace(/#if LOST[\s\S]*?#else\n/, '').replaceAll(/#.*\n/g, ''))
})

test('expectations stand in the order of the queries, not of the header', () => {
  assert.deepEqual(whole.expected, [
    { query: 'first', isTrue: false },
    { query: 'second', isTrue: true },
  ])
  assert.equal(expectedOf(whole), '1 true, 1 false')
})

test('the digest is of the text without its first comment', () => {
  assert.equal(one(variantsOf('toy', HEADER.replace('All of it', 'Everything') + BODY), 'whole').digest, whole.digest)
  assert.notEqual(one(variantsOf('toy', HEADER + BODY.replace('kept', 'left')), 'whole').digest, whole.digest)
})

test('a typing error in a header is none of a passing check', () => {
  assert.throws(() => faulty('@variant a\n@expect frist true'), /no query frist/)
  assert.throws(() => faulty('@variant a LSOT\n@expect first true'), /no #if asks for LSOT/)
  assert.throws(() => faulty('@variant a\n@expect first yes'), /not an expectation/)
  assert.throws(() => faulty('@variant a\n@expect first'), /not an expectation/)
  assert.throws(() => faulty('@expect first true'), /not an expectation/)
  assert.throws(() => faulty('@variant a\n@expect first true\n@expect first false'), /expected twice/)
  assert.throws(() => faulty('@variant a\n@expect first true\n@variant a\n@expect first true'), /is there twice/)
  assert.throws(() => faulty('@variant a'), /nothing is expected/)
  assert.throws(() => faulty('nothing'), /no variants/)
  assert.throws(() => variantsOf('toy', BODY), /no first comment/)
})

test('directives that do not fit together are refused', () => {
  const none = { flags: [], queries: [] }
  assert.throws(() => cut('#if A\nx', none), /without its #endif/)
  assert.throws(() => cut('#endif', none), /without its #if/)
  assert.throws(() => cut('#else', none), /without its #if/)
  assert.throws(() => cut('#if A\n#else\n#else\n#endif', none), /two #else/)
  assert.throws(() => cut('#if A && B\n#endif', none), /not a condition/)
})

const ANSWER = `Completing...
RESULT not event(a) is false.
RESULT (even event(b) is false.)
-- Query
RESULT not attacker(s[]) is true.

--------------------------------------------------------------
Verification summary:

Query not event(a) is false.

Query not attacker(s[]) is true.

--------------------------------------------------------------
`

test('answers are compared with expectations one by one', () => {
  assert.deepEqual(compare(whole, answerOf(ANSWER)), { isGood: true, got: '1 true, 1 false', differences: [] })
  const swapped = answerOf(
    ANSWER.replaceAll('is false', 'IS').replaceAll('is true', 'is false').replaceAll('IS', 'is true'),
  )
  assert.equal(compare(whole, swapped).differences.length, 2)
  const unsure = compare(whole, answerOf(ANSWER.replaceAll('is true', 'cannot be proved')))
  assert.deepEqual(unsure.differences, ['second: expected true, got cannot be proved'])
})

test('answers that are missing, too many, or cut off are differences', () => {
  assert.deepEqual(compare(whole, answerOf('RESULT not event(a) is false.\n')).differences, [
    'second: expected true, got no answer',
  ])
  assert.equal(compare(whole, answerOf(`${ANSWER}RESULT x is true.\n`)).isGood, false)
  assert.equal(compare(whole, { ...answerOf(ANSWER), problem: 'was stopped' }).isGood, false)
  assert.equal(compare(whole, answerOf('')).got, 'nothing')
})

test('a record is checked against the text and the expectations of today', () => {
  const record = recordOf(whole, answerOf(ANSWER), '2.05')
  assert.deepEqual(checkRecord(whole, record), [])
  assert.match(checkRecord(whole, undefined)[0] ?? '', /not recorded/)
  const changed = one(variantsOf('toy', HEADER + BODY.replace('kept', 'left')), 'whole')
  assert.match(checkRecord(changed, record)[0] ?? '', /was changed since/)
  const otherwise = one(variantsOf('toy', HEADER.replace('first false', 'first true') + BODY), 'whole')
  assert.deepEqual(checkRecord(otherwise, record), ['first: expected true, got false'])
  assert.equal(checkRecord(whole, record.replace(/RESULT not attacker.*\n/, '')).length, 1)
})

const MODEL = `/*
 * Each @run is one verification.
 * @run small       | -DLIVES=2  | holds
 * @run deep-more   |            | holds
 * @run broken-take | -DBROKEN   | taken twice
 */
#ifndef LIVES
#endif
#ifdef BROKEN
#endif
assert(a == b); /* taken twice */
assert(b == c);
`

test('runs are read from the header of a Promela model', () => {
  assert.deepEqual(runsOf(MODEL), [
    { name: 'small', flags: ['-DLIVES=2'], expected: 'holds', isDeep: false },
    { name: 'deep-more', flags: [], expected: 'holds', isDeep: true },
    { name: 'broken-take', flags: ['-DBROKEN'], expected: 'taken twice', isDeep: false },
  ])
})

test('a run that is written wrongly is refused', () => {
  assert.throws(() => runsOf(MODEL.replace('-DLIVES=2', '-DLIFES=2')), /asks for -DLIFES=2/)
  assert.throws(() => runsOf(MODEL.replace('| taken twice', '| taken thrice')), /no assertion has the comment/)
  assert.throws(() => runsOf(MODEL.replace('| -DLIVES=2  | holds', '| -DLIVES=2')), /not a run/)
  assert.throws(() => runsOf(MODEL.replace('deep-more', 'small')), /is there twice/)
  assert.throws(() => runsOf('nothing'), /no runs/)
})

const SEARCHED = `(Spin Version 6.5.2 -- 6 December 2019)
	+ Partial Order Reduction

Full statespace search for:
	never claim         	- (not selected)
	assertion violations	+
	invalid end states	+

State-vector 180 byte, depth reached 389, errors: 0
   413975 states, stored
`
const failed = (line: string) => `${line}\npan: wrote model.pml.trail

(Spin Version 6.5.2 -- 6 December 2019)
Warning: Search not completed

Full statespace search for:

State-vector 180 byte, depth reached 24, errors: 1
`

test('the outcome of a search is what its checker found', () => {
  assert.equal(outcomeOf(SEARCHED), 'holds')
  assert.equal(outcomeOf(failed('pan:1: assertion violated  !(((a==b))) (at depth 24)')), 'assertion violated')
  assert.equal(outcomeOf(failed('pan:1: invalid end state (at depth 5)')), 'invalid end state')
  assert.equal(outcomeOf(failed('pan:1: acceptance cycle (at depth 17)')), 'acceptance cycle')
  assert.notEqual(outcomeOf(failed('pan:1: VECTORSZ too small, edit pan.h (at depth 3)')), 'holds')
})

test('a search that did not see all states never holds', () => {
  for (const line of [
    'error: max search depth too small',
    'pan: reached -DMEMLIM bound',
    'pan: out of memory',
    'Interrupted',
    'Warning: Search not completed',
  ]) {
    assert.match(outcomeOf(`${line}\n${SEARCHED}`), /^not all states were seen/)
  }
  assert.equal(outcomeOf(SEARCHED.replace('Full statespace search', 'Bit statespace search')), 'no outcome')
  assert.equal(outcomeOf(SEARCHED.replace('errors: 0', 'errors: 10')), 'no outcome')
  assert.equal(outcomeOf(''), 'no outcome')
})

test('a violated assertion is known by the comment beside it', () => {
  const trail = (line: number) =>
    `spin: model.pml:${line}, Error: assertion violated\nspin: text of failed assertion: x\n`
  assert.equal(commentOf(trail(11), MODEL), 'taken twice')
  assert.match(commentOf(trail(12), MODEL), /without a comment/)
  assert.match(commentOf('spin: trail ends after 3 steps', MODEL), /line unknown/)
})

test('every variant has a record that is of its text and says what is expected; there are no others', () => {
  const all = globSync('formal/*.pv').flatMap(path => variantsOf(basename(path, '.pv'), readFileSync(path, 'utf8')))
  assert.ok(all.length >= 20, 'the models are found')
  for (const variant of all) {
    const path = join('formal/recorded', recordName(variant))
    assert.deepEqual(checkRecord(variant, existsSync(path) ? readFileSync(path, 'utf8') : undefined), [], path)
  }
  const records = globSync('formal/recorded/*').map(path => basename(path))
  assert.deepEqual(records.sort(), all.map(recordName).sort())
})

test('the models have variants and runs that must fail', () => {
  const names = (path: string) => [...readFileSync(path, 'utf8').matchAll(/@(?:variant|run) (broken-\S+)/g)]
  for (const path of ['formal/handshake.pv', 'formal/resumption.pv', 'formal/session.pml']) {
    assert.ok(names(path).length >= 2, path)
  }
  const runs = runsOf(readFileSync('formal/session.pml', 'utf8'))
  assert.ok(runs.filter(({ name, expected }) => name.startsWith('broken-') && expected !== 'holds').length >= 8)
})
