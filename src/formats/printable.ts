/** Text from a file or a template, made fit for a message: a stranger's file must not steer a terminal. */

/** At most `lengthMax` UTF-16 units; control and other invisible characters become U+FFFD. */
export function printable(text: string, lengthMax: number): string {
  const clean = text.slice(0, lengthMax).replaceAll(/\p{C}/gu, '\ufffd')
  return text.length > lengthMax ? `${clean}…` : clean
}
