import { CREATED } from './dialect.ts'
import type { JsonObject } from './json.ts'

/** The names the practice models list; any other name is answered as well. */
const NAMES = ['practice-large', 'practice-small', 'practice-embed']

/** `GET /v1/models` in the shape of either provider. */
export function modelList(toAnthropic: boolean): JsonObject {
  if (!toAnthropic) {
    return {
      object: 'list',
      data: NAMES.map((id) => ({ id, object: 'model', created: CREATED, owned_by: 'practice' })),
    }
  }
  const created_at = new Date(CREATED * 1_000).toISOString()
  const data = NAMES.map((id) => ({
    id,
    type: 'model',
    display_name: id,
    created_at,
    lifecycle: 'active',
  }))
  return { data, has_more: false, first_id: NAMES[0], last_id: NAMES.at(-1) }
}
