/** Wraps text that arrives in pieces at spaces, so that a streamed answer is not broken within words. */
import { characters, isWide, widthOf } from './text-width.ts'

export interface WordWrap {
  /** Takes a piece of text; whole words go out, an unfinished one waits. */
  write(text: string): void
  /** Sends what waits. */
  end(): void
}

export function createWordWrap(write: (text: string) => void, columns: number): WordWrap {
  let column = 0
  let word = ''
  let spaces = ''
  const flushWord = (): void => {
    if (word === '') return
    const length = widthOf(word)
    if (column > 0 && column + spaces.length + length > columns) {
      write('\n')
      column = 0
      spaces = ''
    }
    write(spaces + word)
    column += spaces.length + length
    word = ''
    spaces = ''
  }
  return {
    write: text => {
      for (const character of characters(text)) {
        if (character === '\n') {
          flushWord()
          write('\n')
          column = 0
          spaces = ''
        } else if (character === ' ') {
          flushWord()
          spaces += ' '
        } else {
          word += character
          // Scripts without spaces may break anywhere.
          if (isWide(character) || word.length >= columns) flushWord()
        }
      }
    },
    end: flushWord,
  }
}
