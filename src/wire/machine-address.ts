/** Addresses that only this machine can dial: 127.0.0.0/8 and ::1. */
export function isOfThisMachine(multiaddr: string): boolean {
  return /^\/(?:ip4\/127\.|ip6\/::1\/)/.test(multiaddr)
}
