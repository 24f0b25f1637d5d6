/** How a streamed answer goes to an output. */
import type { Output } from './terminal.ts'
import { createWordWrap } from './word-wrap.ts'

export interface AnswerPrinter {
  readonly write: (text: string) => void
  /** Sends what waits and ends the last line. */
  readonly end: () => void
}

/** Wraps at words on a terminal; elsewhere the text goes out as it is. */
export function createAnswerPrinter(output: Output): AnswerPrinter {
  let isLineOpen = false
  const emit = (text: string): void => {
    output.write(text)
    if (text !== '') isLineOpen = !text.endsWith('\n')
  }
  const wrap = output.isTty ? createWordWrap(emit, output.columns) : { write: emit, end: (): void => undefined }
  return {
    write: text => wrap.write(text),
    end: () => {
      wrap.end()
      if (isLineOpen) output.write('\n')
    },
  }
}
