/** What has happened since the start, for `status`. Names come from a fixed set, never from a peer. */
export class Counters {
  readonly asked: Record<string, number> = {}
  readonly sent: Record<string, number> = {}
  answers = 0
  unanswered = 0
  limited = 0
  dropped = 0
  errors = 0

  countAsked(method: string): void {
    this.asked[method] = (this.asked[method] ?? 0) + 1
  }

  countSent(method: string): void {
    this.sent[method] = (this.sent[method] ?? 0) + 1
  }
}
