/**
 * The program behind a delayed link of the lab: it holds both ends of a cable (two TAP devices) and carries every frame
 * from one to the other, later or not at all. So addresses stay as they are and TCP, UDP, ARP and IPv6 all feel it.
 *
 *   node delay-link.ts SEED IMPAIRMENT-AS-JSON DEVICE DEVICE
 *
 * It prints `ready` when it holds both devices, and ends with its input. Node has no call that says which device an open
 * `/dev/net/tun` is; that one `ioctl` goes by FFI.
 */
import { openSync, read, write } from 'node:fs'
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

let inFlight = 0

/** Carries frames one way for as long as the process lives. */
function carry(from: number, to: number, path: Path): void {
  const buffer = new Uint8Array(FRAME_BYTES_MAX)
  const next = (): void => {
    read(from, buffer, 0, buffer.length, null, (error, size) => {
      if (error === null) forward(buffer.slice(0, size), to, path)
      // A device that is down refuses to be read for a moment; it comes up again, or the process ends with its lab.
      if (error === null) next()
      else systemClock.after(10, next)
    })
  }
  next()
}

function forward(frame: Uint8Array, to: number, path: Path): void {
  const { delayMs, isLost } = path(frame.length)
  if (isLost || inFlight >= LINK_FRAMES_IN_FLIGHT_MAX) return
  inFlight += 1
  systemClock.after(delayMs, () => {
    inFlight -= 1
    // A frame for a device that is down is lost, as on a cable.
    write(to, frame, () => undefined)
  })
}

const [seed = '0', impairment = '{}', near = '', far = ''] = process.argv.slice(2)
const deps = { clock: systemClock, random: seededRandom(Number(seed)) }
const [nearFd, farFd] = [openTap(near), openTap(far)]
carry(nearFd, farFd, createPath(deps, parseImpairment(impairment)))
carry(farFd, nearFd, createPath(deps, parseImpairment(impairment)))
process.stdout.write('ready\n')
process.stdin.on('end', () => process.exit(0)).resume()
