/**
 * The system's clock with timers that take ten times as long: for tests with real sockets or processes, in which whoever is
 * asked does answer. There a bound of a second or two would only measure how long the machine stood still meanwhile.
 */
import { type Clock, systemClock } from '#base'

const STRETCH = 10

export const stretchedClock: Clock = {
  ...systemClock,
  after: (delayMs, action) => systemClock.after(STRETCH * delayMs, action),
}
