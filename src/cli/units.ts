/** Numbers as people read them. */

/** "850 ms", "12.3 s", "4 min 5 s", "3 h 20 min", "2 d 5 h". */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  const minutes = Math.floor(seconds / 60)
  const hours = Math.floor(minutes / 60)
  if (hours >= 24) return `${Math.floor(hours / 24)} d ${hours % 24} h`
  return hours > 0 ? `${hours} h ${minutes % 60} min` : `${minutes} min ${seconds % 60} s`
}

/** "850 ms", "12 s", "4 min", "3 h", "2 d": for columns. */
export function formatAge(ms: number): string {
  if (ms < 1000) return `${Math.floor(ms)} ms`
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  return minutes < 24 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / (24 * 60))} d`
}

/** "0.42 ms", "3.1 ms", "120 ms": three digits or so, for latencies. */
export function formatLatency(ms: number): string {
  return `${ms < 1 ? ms.toFixed(2) : ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}

/** "0.4", "12", "1 340" tokens a second. */
export function formatRate(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : groupDigits(Math.round(perSecond))
}

/** "1 340": thousands apart, with a space that does not break. */
export function groupDigits(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, '\u00a0')
}

/** "…q1Zk9fQx": peer ids all begin alike, so the end tells them apart. */
export function shortPeer(peer: string): string {
  return peer.length <= 9 ? peer : `…${peer.slice(-8)}`
}

/** The first 12 digits of a model id: more than enough to name it. */
export function shortId(id: string): string {
  return id.slice(0, 12)
}

/** "1 peer", "3 peers". */
export function countOf(count: number, noun: string): string {
  return `${groupDigits(count)} ${noun}${count === 1 ? '' : 's'}`
}
