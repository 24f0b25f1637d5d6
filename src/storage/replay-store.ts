/** The replay filter's state, so that a frame captured before a restart is refused after it. */
import type { ReplayStore } from '#protocol'
import { REPLAY_STATE_BYTES_MAX } from './limits.ts'
import { prepareRead, type StoreDeps } from './rows.ts'

export function createReplayStore({ database, guard }: StoreDeps): ReplayStore {
  const load = prepareRead(database, 'SELECT state FROM replay WHERE id = 1 AND length(state) <= ?')
  const save = database.prepare(
    'INSERT INTO replay VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state',
  )
  return {
    load: () =>
      guard.attempt('read the replay filter', undefined, () => {
        const state = load.get(REPLAY_STATE_BYTES_MAX)?.['state']
        return state instanceof Uint8Array ? new Uint8Array(state) : undefined
      }),
    save: state => guard.attempt('store the replay filter', undefined, () => void save.run(state)),
  }
}
