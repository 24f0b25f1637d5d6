/**
 * The program behind a delayed link of the lab: it holds both ends of a cable (two TAP devices) and carries every frame
 * from one to the other, later or not at all. So addresses stay as they are, and TCP and UDP both feel it.
 *
 *   node delay-link.ts SEED IMPAIRMENT-AS-JSON DEVICE DEVICE
 *
 * It prints `ready` when it holds both devices, and ends with its input. Node has no call that says which device an open
 * `/dev/net/tun` is; that one `ioctl` goes by FFI.
 */
import { openSync, read, writeSync } from 'node:fs'
import koffi from 'koffi'
import { seededRandom, systemClock } from '#base'
import { createPath, parseImpairment, type Path } from './impairment.ts'
import { LINK_FRAMES_IN_FLIGHT_MAX } from './limits.ts'

/** linux/if_tun.h: _IOW('T', 202, int), IFF_TAP | IFF_NO_PI. */
const TUNSETIFF = 0x400454ca
const TAP_WITHOUT_HEADER = 0x1002
const NAME_BYTES = 16
const REQUEST_BYTES = 40
const FRAME_BYTES_MAX = 65_536

const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, void *argument)')

function openTap(name: string): number {
  const fd = openSync('/dev/net/tun', 'r+')
  const request = new Uint8Array(REQUEST_BYTES)
  request.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1))
  new DataView(request.buffer).setUint16(NAME_BYTES, TAP_WITHOUT_HEADER, true)
  if (ioctl(fd, TUNSETIFF, request) !== 0) throw new Error(`the device ${name} is not to be had`)
  return fd
}

/** ARP, and IPv6's neighbour and group messages. They come when the kernel likes, so they draw no lot: runs repeat. */
function isHousekeeping(frame: Uint8Array): boolean {
  const type = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0)
  return type === 0x0806 || (type === 0x86dd && (frame[20] === 58 || frame[20] === 0))
}

let inFlight = 0

/** One direction of the cable. */
class Way {
  readonly #from: number
  readonly #to: number
  readonly #path: Path
  readonly #isOrdered: boolean
  readonly #waiting: Uint8Array[] = []

  constructor(ends: readonly [from: number, to: number], path: Path, options: { readonly isOrdered: boolean }) {
    ;[this.#from, this.#to] = ends
    this.#path = path
    this.#isOrdered = options.isOrdered
  }

  /** Carries frames for as long as the process lives. */
  carry(buffer = new Uint8Array(FRAME_BYTES_MAX)): void {
    read(this.#from, buffer, 0, buffer.length, null, (error, size) => {
      if (error === null) this.#forward(buffer.slice(0, size))
      // A device that is down refuses to be read for a moment; it comes up again, or the process ends with its lab.
      if (error === null) this.carry(buffer)
      else systemClock.after(10, () => this.carry(buffer))
    })
  }

  #forward(frame: Uint8Array): void {
    if (isHousekeeping(frame)) {
      this.#deliver(frame)
      return
    }
    const { delayMs, isLost } = this.#path(frame.length)
    if (isLost || inFlight >= LINK_FRAMES_IN_FLIGHT_MAX) return
    inFlight += 1
    this.#waiting.push(frame)
    systemClock.after(delayMs, () => {
      inFlight -= 1
      // Timers are only as exact as a millisecond. Without jitter each lets go of the oldest frame: none overtakes another.
      const index = this.#isOrdered ? 0 : this.#waiting.indexOf(frame)
      const [next] = this.#waiting.splice(index, 1)
      if (next !== undefined) this.#deliver(next)
    })
  }

  #deliver(frame: Uint8Array): void {
    try {
      writeSync(this.#to, frame)
    } catch {
      // A frame for a device that is down is lost, as on a cable.
    }
  }
}

const [seed = '0', text = '{}', near = '', far = ''] = process.argv.slice(2)
const impairment = parseImpairment(text)
const isOrdered = (impairment.jitterMs ?? 0) === 0
const [nearFd, farFd] = [openTap(near), openTap(far)]
// A generator for each direction: what one decides does not depend on when the other is asked.
for (const [from, to, lot] of [
  [nearFd, farFd, Number(seed)],
  [farFd, nearFd, Number(seed) ^ 0xffffffff],
] as const) {
  const path = createPath({ clock: systemClock, random: seededRandom(lot) }, impairment)
  new Way([from, to], path, { isOrdered }).carry()
}
process.stdout.write('ready\n')
process.stdin.on('end', () => process.exit(0)).resume()
