/**
 * The little of XML that UPnP gateways need: text between an element's tags, wherever it stands. No entities but the five
 * of XML, no includes, no nesting of an element in one of its own name. What is damaged counts as not there; the work is
 * linear in the text, which the caller bounds.
 */

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }

/** The insides of all elements with this name, whatever their name space, at most `countMax`. */
export function elementsOf(xml: string, name: string, countMax: number): string[] {
  const found: string[] = []
  let at = 0
  while (found.length < countMax) {
    const start = xml.indexOf('<', at)
    const end = start < 0 ? -1 : xml.indexOf('>', start)
    if (end < 0) break
    at = end + 1
    const tag = xml.slice(start + 1, end).split(/[\s/]/, 1)[0] ?? ''
    if (tag.slice(tag.indexOf(':') + 1) !== name || xml[end - 1] === '/') continue
    const close = xml.indexOf(`</${tag}>`, at)
    // Where this one does not end, none behind it can be trusted either; and looking again for each would be quadratic.
    if (close < 0) break
    found.push(xml.slice(at, close))
    at = close + tag.length + 3
  }
  return found
}

/** The text of the first element with this name. */
export function textOf(xml: string, name: string): string | undefined {
  const [inside] = elementsOf(xml, name, 1)
  return inside?.trim().replaceAll(/&(lt|gt|quot|apos|amp);/g, (whole, entity: string) => ENTITIES[entity] ?? whole)
}
