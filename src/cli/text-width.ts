/** How many terminal columns text takes. */
import { stripVTControlCharacters } from 'node:util'

const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

/** East Asian wide characters and most emoji: two columns (Unicode Standard Annex 11, the common blocks). */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u

/** What people see as characters. */
export function characters(text: string): readonly string[] {
  return Array.from(segmenter.segment(text), part => part.segment)
}

export function isWide(character: string): boolean {
  return WIDE.test(character)
}

/** Columns that text takes; colours take none. */
export function widthOf(text: string): number {
  let width = 0
  for (const character of characters(stripVTControlCharacters(text))) width += isWide(character) ? 2 : 1
  return width
}

/** Cuts plain text to a width, with an ellipsis for what is missing. */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text
  let kept = ''
  let used = 1
  for (const character of characters(text)) {
    used += isWide(character) ? 2 : 1
    if (used > width) break
    kept += character
  }
  return `${kept}…`
}
