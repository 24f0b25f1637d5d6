/** A STUN server with two addresses, those of its arguments, as a process: serves until it is ended. */
import { systemClock } from '#base'
import { createStunServer, openStunSockets, openUdp } from '#nat'

const [first = '', second = ''] = process.argv.slice(2)
const sockets = await openStunSockets(openUdp, [first, second], [3478, 3479])
createStunServer({ clock: systemClock, sockets })
process.stdout.write('serving\n')
